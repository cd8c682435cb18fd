"""What the options of `map` may be."""

from fractions import Fraction

import numpy as np
import pytest

import common
from common.farm.map_options import MapOptions, between, checked, dispatch_settings


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (MapOptions(errors="foo"), ValueError, "errors='foo': give 'raise' or 'return' or 'skip'"),  # type: ignore[typeddict-item]
        (MapOptions(when_nobody="foo"), ValueError, "when_nobody='foo': give 'raise' or 'wait'"),  # type: ignore[typeddict-item]
        (MapOptions(buffer=0), ValueError, "buffer=0: give a whole number from 1 to 10,000,000"),
        (MapOptions(buffer=2.5), TypeError, "buffer=2.5: give a whole number from 1"),  # type: ignore[typeddict-item]
        (MapOptions(retry_failed=True), ValueError, "retry_failed needs job=NAME"),
        (MapOptions(total=-1), ValueError, "total=-1: give a whole number from 0 to"),
        (MapOptions(total=1.5), TypeError, r"total=1\.5: give a whole number"),  # type: ignore[typeddict-item]
        (MapOptions(progress="yes"), TypeError, "progress='yes': give a function that takes a Standing, or True"),  # type: ignore[typeddict-item]
        (MapOptions(timeout=0), ValueError, "timeout=0: give a number of seconds above 0, at most 1,000,000,000"),
        (MapOptions(timeout=float("nan")), ValueError, "timeout=nan: give a number of seconds above 0"),
        (MapOptions(timeout=float("inf")), ValueError, "timeout=inf: give a number of seconds above 0, at most"),
        (MapOptions(timeout="1"), TypeError, "timeout='1': give a number of seconds above 0"),  # type: ignore[typeddict-item]
        (MapOptions(batch=0), ValueError, "batch=0: give a whole number from 1 to 100,000"),
    ],
)
def test_what_cannot_be_is_refused(options: MapOptions, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        dispatch_settings(checked(options))


def test_seconds_of_any_type_are_taken() -> None:
    assert dispatch_settings(MapOptions(timeout=Fraction(1, 2))).timeout_s == 0.5  # type: ignore[typeddict-item]
    assert dispatch_settings(MapOptions(timeout=None)).timeout_s is None


def test_a_way_to_a_farm_is_checked_before_anything_starts() -> None:
    for wrong in ({"slots": 0}, {"slots": "2"}, {"slots": 20_000}, {"slots": 1_001}):
        with pytest.raises((TypeError, ValueError), match=r"slots=.*: give a whole number from 1 to 1,000"):
            common.local(**wrong)
    for wrong in ({"port": 99_999}, {"port": "5557"}, {"port": -1}):
        with pytest.raises((TypeError, ValueError), match=r"port=.*: give a whole number from 0 to 65,535"):
            common.connect(**wrong)


def test_there_is_always_a_buffer() -> None:
    assert checked(MapOptions()) == {"buffer": 10_000}
    assert checked(MapOptions(buffer=3, batch=2)) == {"buffer": 3, "batch": 2}


def test_a_total_of_any_whole_type_is_an_int() -> None:
    assert type(checked(MapOptions(total=np.int64(3)))["total"]) is int  # type: ignore[typeddict-item]


def test_whole_numbers_of_any_type_are_taken_and_no_others() -> None:
    class Seven:
        def __index__(self) -> int:
            return 7

    assert between("batch", Seven(), 1, 10) == 7
    assert between("batch", None, 1, 10) is None
    with pytest.raises(TypeError, match=r"batch=2\.0: give a whole number from 1 to 10"):
        between("batch", 2.0, 1, 10)  # type: ignore[arg-type]
