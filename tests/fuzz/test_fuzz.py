"""The fuzz targets in short: some thousands of seeded inputs, and every input that ever crashed one.

The long form is `python -m tests.fuzz.soak`.
"""

import random

import pytest

from tests.fuzz.soak import CRASHES, WEIGHTS, mutated
from tests.fuzz.targets import TARGETS

EXAMPLES = {"collection": 400, "key_file": 300, "child_link": 400, "dispatch": 1_000, "holding": 1_000}


def test_the_soak_shares_its_inputs_among_all_targets() -> None:
    assert set(WEIGHTS) == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_a_peer_says_is_worse_than_a_protocol_error(target: str) -> None:
    source, content = random.Random(target), b""
    for _ in range(EXAMPLES.get(target, 2_000)):
        content = mutated(source, content)
        try:
            TARGETS[target](content)
        except Exception as error:
            error.add_note(f"input: {content!r}")
            raise


@pytest.mark.parametrize("path", sorted(CRASHES.glob("*-*")), ids=lambda path: path.name[:40])
def test_what_crashed_a_target_once_does_not_again(path) -> None:  # type: ignore[no-untyped-def]
    TARGETS[path.name.partition("-")[0]](path.read_bytes())
