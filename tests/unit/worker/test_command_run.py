"""Commands that are really run: what is kept of them, how they end, what they leave behind."""

import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from common.worker import command_run
from common.worker.command_run import STDERR_KEPT, STDOUT_KEPT, CommandFailed, NamedCommand, Surroundings
from common.worker.command_template import Template, Unfilled
from tests.conftest import is_gone, wait_until

Made = Callable[..., NamedCommand]


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/dev/fd").iterdir()}


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def _made(text: str, **more: Any) -> NamedCommand:
        template = Template(text)
        around = Surroundings(3, more.get("output_dir"), nullcontext, lambda: 7)
        around.job = more.get("job", "job-1")
        return NamedCommand(shutil.which(template.program) or template.program, template, around)

    return _made


def failure(command: NamedCommand, *arguments: Any) -> CommandFailed:
    with pytest.raises(CommandFailed) as raised:
        command(*arguments)
    return raised.value


def test_what_a_command_prints_is_its_value(made: Made) -> None:
    value = made("bash -c 'echo \"$1\"; echo why >&2; printf end' _ {}")("a  b$(id)")
    assert value == {"exit_code": 0, "stdout": "a  b$(id)\nend", "stderr": "why\n"}


def test_several_arguments_are_a_list_and_named_ones_a_map(made: Made) -> None:
    assert made("echo {2} {1}")("a", "b")["stdout"] == "b a\n"
    assert made("echo {2} {1}")(["a", "b"])["stdout"] == "b a\n"
    assert made("echo {key}")(key="b")["stdout"] == "b\n"


def test_standard_input_is_empty_and_the_environment_says_where(made: Made) -> None:
    assert made("cat")("/dev/stdin")["stdout"] == ""
    text = "bash -c 'echo \"$TRADEWIND_JOB $TRADEWIND_TASK $TRADEWIND_SLOT\"' _ {}"
    assert made(text)("")["stdout"] == "job-1 7 3\n"


def test_output_that_is_not_utf_8_stays_as_it_is(made: Made) -> None:
    assert made("printf '\\377\\0a' {}")("")["stdout"] == b"\xff\0a"


def test_the_argument_may_be_any_bytes(made: Made) -> None:
    assert made("echo {}")(b"\xff\xfe")["stdout"] == b"\xff\xfe\n"


@pytest.mark.parametrize(("name", "kept"), [("stdout", STDOUT_KEPT), ("stderr", STDERR_KEPT)])
def test_of_much_output_both_ends_are_kept(made: Made, name: str, kept: int) -> None:
    code = f"import sys; out = sys.{name}; out.write('a' * {kept} + 'b' * 50 + 'c' * {kept})"
    value = made(f'python3 -c "{code}" {{}}')("")
    half = kept // 2
    assert value[name] == "a" * half + f"\n[{kept + 50} bytes left out]\n" + "c" * half
    assert value[f"{name}_bytes"] == 2 * kept + 50


@pytest.mark.parametrize("count", [STDOUT_KEPT - 1, STDOUT_KEPT, STDOUT_KEPT // 2])
def test_what_is_not_too_much_is_whole(made: Made, count: int) -> None:
    value = made("head -c {} /dev/zero")(count)
    assert len(value["stdout"]) == count
    assert "stdout_bytes" not in value


@pytest.mark.parametrize(
    ("script", "text", "is_final"),
    [
        ("exit 3", "exit code 3, and nothing on standard error", False),
        ("echo why >&2; exit 75", "exit code 75: why", False),
        ("echo a >&2; echo b >&2; exit 1", "exit code 1: b\n\na\nb", False),
        ("seq 100 >&2; exit 1", "exit code 1: 100\n\n" + "\n".join(map(str, range(81, 101))), False),
        ("exit 126", "exit code 126, and nothing on standard error", True),
        ("exit 127", "exit code 127, and nothing on standard error", True),
        ("kill -9 $$", "signal 9 (SIGKILL), and nothing on standard error", False),
        ("kill -TERM $$", "signal 15 (SIGTERM), and nothing on standard error", False),
        ("kill -40 $$", "signal 40, and nothing on standard error", False),
    ],
)
def test_how_a_command_fails(made: Made, script: str, text: str, is_final: bool) -> None:
    error = failure(made(f"bash -c '{script}' _ {{}}"), "")
    assert (str(error), error.do_not_retry) == (text, is_final)


@pytest.mark.parametrize(("script", "waits"), [("kill -TERM $$", [0.25]), ("kill -9 $$", []), ("exit 143", [])])
def test_a_sigterm_may_be_for_the_worker_too_and_is_not_reported_at_once(
    made: Made, script: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(command_run, "sleep", waited.append)
    failure(made(f"bash -c '{script}' _ {{}}"), "")
    assert waited == waits


def test_it_ends_by_a_broken_pipe_like_any_program(made: Made) -> None:
    assert made("bash -c 'yes | head -1' _ {}")("") == {"exit_code": 0, "stdout": "y\n", "stderr": ""}


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_what_goes_on_in_the_background_is_not_waited_for(
    made: Made, has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.setattr(command_run, "_pidfd_open", None)
    value = made("bash -c 'sleep 600 & echo $!' _ {}")("")
    os.kill(int(value["stdout"]), signal.SIGKILL)


def test_a_command_that_closes_its_outputs_is_waited_for(made: Made) -> None:
    assert str(failure(made("bash -c 'exec >&- 2>&-; sleep 0.1; exit 5' _ {}"), "")).startswith("exit code 5")


def test_too_long_an_argument_is_said_and_not_retried(made: Made) -> None:
    error = failure(made("echo {}"), "x" * 3_000_000)
    assert str(error).startswith("the command has 3000004 bytes, more than this system gives to a program")
    assert error.do_not_retry


def test_a_program_that_is_gone_is_said(made: Made, tmp_path: Path) -> None:
    error = failure(made(f"{tmp_path}/none {{}}"), "a")
    assert str(error) == f"{tmp_path}/none cannot be started: No such file or directory"
    assert error.do_not_retry


def test_what_does_not_fit_is_not_run(made: Made, tmp_path: Path) -> None:
    with pytest.raises(Unfilled):
        made("touch {}")("-x")
    assert not list(tmp_path.iterdir())


# -- files --------------------------------------------------------------------------------------------------------


def test_all_output_is_in_files(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = made("bash -c 'head -c 3000000 /dev/zero; echo why >&2; exit $1' _ {}", output_dir=str(folder))
    value = command(0)
    assert value["stdout_file"] == f"{folder}/job-1/7.stdout"
    assert Path(value["stdout_file"]).read_bytes() == bytes(3_000_000)
    assert Path(value["stderr_file"]).read_text() == "why\n"
    failure(command, 9)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["7.exit_code", "7.stderr", "7.stdout"]
    assert (folder / "job-1" / "7.exit_code").read_text() == "9\n"


def test_the_file_of_a_signal_has_what_shells_say(made: Made, tmp_path: Path) -> None:
    failure(made("bash -c 'kill -9 $$' _ {}", output_dir=str(tmp_path)), "")
    assert (tmp_path / "job-1" / "7.exit_code").read_text() == "137\n"


@pytest.mark.parametrize("job", ["", ".", "..", "../up", "a/b", "/etc", ".hidden", "a\0b"])
def test_no_job_leads_out_of_the_folder(made: Made, tmp_path: Path, job: str) -> None:
    error = failure(made("echo {}", output_dir=str(tmp_path / "out"), job=job), "a")
    assert "cannot be the name of a folder" in str(error)
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_folder_is_replaced_and_not_followed(made: Made, tmp_path: Path) -> None:
    (tmp_path / "job-1").mkdir()
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "job-1" / "7.stdout").symlink_to(tmp_path / "mine")
    made("echo {}", output_dir=str(tmp_path))("a")
    assert (tmp_path / "mine").read_text() == "kept"
    assert stat.S_ISREG((tmp_path / "job-1" / "7.stdout").lstat().st_mode)


def test_where_files_cannot_be_written_the_command_is_ended_and_may_run_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job-1").write_text("in the way")
    error = failure(made("echo {}", output_dir=str(tmp_path)), "a")
    assert str(error).startswith("the worker's --output-dir cannot be written: ")
    assert not error.do_not_retry
    started = []

    def refuse(descriptor: int, chunk: memoryview) -> int:
        started.append(int(bytes(chunk)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command_run, "_write", refuse)
    error = failure(made("bash -c 'echo $$; exec sleep 600' _ {}", output_dir=str(tmp_path), job="b"), "")
    assert "No space left on device" in str(error)
    wait_until(lambda: is_gone(started[0]), "the command is ended")
    assert not list((tmp_path / "b").iterdir())
