"""What a job that was given no name is called."""

from collections.abc import Callable

import pytest

from common.farm.names import check_job as check_in_program
from common.farm.names import new_job as new_in_program
from common.ventilator.command import check_job, new_job

FUNCTIONS = ["a.b:c", "größe.b:" + "c" * 100, "größe:länge", "_m:_f", "測:測", "測" * 100 + ":f", "---:..."]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("new", "check"), [(new_job, check_job), (new_in_program, check_in_program)], ids=["command", "program"]
)
def test_a_job_can_have_the_name_that_is_made_for_it(
    new: Callable[[str], str], check: Callable[[str], object], function: str
) -> None:
    check(new(function))
