"""The command line of the worker: what it refuses of --command and --output-dir, in words."""

from pathlib import Path

import pytest

from common.errors import OperatorError
from common.worker.command import named_commands, output_folder


@pytest.mark.parametrize(
    ("texts", "modules", "said"),
    [
        (["x=nonesuch {}"], [], "--command x: nonesuch is not found in any folder of PATH (/"),
        (["x=./nonesuch {}"], [], "--command x: ./nonesuch is not there (looked from /"),
        (["x=/ {}"], [], "--command x: / is a folder: name a program"),
        (["x=./plain {}"], [], "--command x: ./plain may not be executed: chmod +x it"),
        (["true"], [], "--command true: give it as NAME='PROGRAM {}'"),
        (["a/b=true"], [], "--command a/b=true: give it as NAME='PROGRAM {}'"),
        (["=true"], [], "--command =true: give it as NAME='PROGRAM {}'"),
        (["x="], [], "--command x: it names no program"),
        (["x=true", "x=false"], [], "--command x= stands there twice"),
        (["x=gzip -c {} > {}.gz"], [], "--command x: no shell runs it, so > would be an argument"),
        (["x=true"], ["command"], "command: a module of this name cannot be served beside --command"),
        (["x=true"], ["mine", "command:x"], "command:x: a module of this name cannot be served beside --command"),
        ([], [], "name a module to serve, or a command with --command NAME='PROGRAM {}'"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_in_one_line(
    texts: list[str], modules: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").touch(0o644)
    with pytest.raises(OperatorError) as raised:
        named_commands(texts, modules)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_module_named_command_is_a_module_where_there_is_no_command() -> None:
    assert named_commands([], ["command"]) == {}


def test_a_program_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert named_commands(["x.1=./tool a=b {}"], []) == {"command:x.1": (f"{tmp_path}/tool", "./tool a=b {}")}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert named_commands(["x=tool"], ["mine"]) == {"command:x": (f"{tmp_path}/tool", "tool")}


def test_the_output_folder_is_made_and_tried(tmp_path: Path) -> None:
    assert output_folder(None, True) is None
    assert output_folder(tmp_path / "a" / "b", True) == f"{tmp_path}/a/b"
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match=r"--output-dir \S+/file cannot be written: File exists"):
        output_folder(tmp_path / "file", True)
    with pytest.raises(OperatorError, match="--output-dir is for what commands print: give --command too"):
        output_folder(tmp_path, False)
