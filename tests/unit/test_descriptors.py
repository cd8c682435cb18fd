"""The limit of descriptors: raised for us, as it was for what we start, and too low a one is said in words."""

import subprocess
import sys

import pytest

from tests.conftest import TOP

PROGRAM = """
import resource, subprocess, sys
from common import descriptors
from common.errors import OperatorError
try:
    limit = descriptors.raise_limit()
except OperatorError as error:
    sys.exit(str(error))
show = [sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"]
with descriptors.as_started():
    inside = subprocess.check_output(show, text=True).strip()
print(limit, inside, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def run(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    command = [
        "sh",
        "-c",
        f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$0" "$@"',
        sys.executable,
        "-c",
        PROGRAM,
    ]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 900, 900), (900, 900, 900)])
def test_it_is_raised_for_us_and_not_for_what_we_start(soft: int, hard: int, raised: int) -> None:
    assert run(soft, hard).stdout == f"{raised} {soft} {raised}\n"


def test_too_few_are_said_in_words() -> None:
    ended = run(40, 40)
    assert ended.stderr.strip().splitlines()[-1] == (
        "only 40 files may be open here: allow more with `ulimit -n 1024` (or LimitNOFILE)"
    )
    assert ended.returncode == 1
