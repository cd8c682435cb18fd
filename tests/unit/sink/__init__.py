import pytest

pytest.register_assert_rewrite("tests.unit.sink.store_contract")
