"""The recipes: what they print is what other programs take."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from common.crew import recipes
from common.crew.command import app
from common.errors import OperatorError
from common.protocol.users import WORKER
from common.transport.key_files import load
from common.transport.key_folder import KeyFolder

WORDS = ("work", "--slots", "4", "--command", r'odd=echo "{}" $HOME 50% \n')


def tool(name: str) -> str:
    """A program that a package of this Python brings; the test is skipped where it is missing."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (the extra `recipes`)")
    return found


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    command: Any = typer.main.get_command(app)
    command.main([*arguments], prog_name="crew", standalone_mode=False)
    return capsys.readouterr().out


# -- systemd ------------------------------------------------------------------------------------------------------


def test_a_unit_says_the_workers_words() -> None:
    text = recipes.unit(["/opt/bin/tradewind"], WORDS, "/etc/100%.key_secret", "/srv/far m", 7.5)
    assert (
        r'ExecStart=/opt/bin/tradewind worker work --slots 4 --command "odd=echo \"{}\" $$HOME 50%% \\n" --key %d/key'
        in text.splitlines()
    )
    assert "LoadCredential=key:/etc/100%%.key_secret" in text.splitlines()
    assert "TimeoutStopSec=23" in text.splitlines()


def test_systemd_has_nothing_to_say_about_a_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "tradewind-test.service"
    path.write_text(printed(capsys, "systemd", "--program", f"{sys.executable} -m tradewind", "--", *WORDS))
    found = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    # For a word that it does not know it says so, and exits with 0.
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert " -m tradewind worker work " in path.read_text()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--program", "/opt/tradewind'", "no closing quotation"),
        ("--program", "", "a path that begins with /, or a name"),
        ("--program", "~/venv/bin/tradewind", "a path that begins with /, or a name"),
        ("--cwd", "farm", "a path that begins with /"),
        ("--key", "worker.key_secret", "a path that begins with /"),
    ],
)
def test_what_systemd_would_refuse(option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OperatorError, match=f"^{option} {value}: .*{said}"):
        printed(capsys, "systemd", f"{option}={value}", "--", "work")
    assert "ExecStart=tradewind worker" in printed(capsys, "systemd", "--program", "tradewind", "--", "work")


# -- Kubernetes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFolder:
    monkeypatch.chdir(tmp_path)
    made = KeyFolder(Path("keys"))
    made.prepare()
    made.prepare_local("tcp://127.0.0.1:5559")
    made.enrol(WORKER, "pods", "tcp://farm:5559", Path("pods.key_secret"))
    return made


def test_kubernetes_takes_the_manifest(folder: KeyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--image", "registry.example/farm:1", "--replicas", "3", "--key", "pods.key_secret"]
    Path("pods.yaml").write_text(printed(capsys, "kubernetes", *options, "--", *WORDS))
    # It refuses what the schema does not know, which a server would ignore.
    check = [tool("kubernetes-validate"), "--strict", "pods.yaml"]
    found = subprocess.run(check, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("passed for resource") == 2
    Path("bad.yaml").write_text(Path("pods.yaml").read_text().replace("fsGroup", "fsGruppe"))
    assert subprocess.run([*check[:-1], "bad.yaml"], capture_output=True).returncode == 1


def test_kubernetes_expands_nothing_in_the_workers_words(capsys: pytest.CaptureFixture[str]) -> None:
    word = "odd=sh -c 'echo $(KUBERNETES_SERVICE_HOST) $$ $HOME'"
    text = printed(capsys, "kubernetes", "--image", "farm", "--", "--command", word)
    [said] = re.findall(r"^ +args: (.*)$", text, re.MULTILINE)
    assert json.loads(said)[2] == "odd=sh -c 'echo $$(KUBERNETES_SERVICE_HOST) $$$$ $$HOME'"


def test_a_pod_asks_for_as_many_cores_as_it_has_slots(capsys: pytest.CaptureFixture[str]) -> None:
    for words, args, cores in (
        (["work", "--slots", "4", "--grace", "7.5"], ["work", "--slots", "4", "--grace", "7.5"], 4),
        # Without a CPU limit a worker would take all cores of its node for its own.
        (["work"], ["work", "--slots", "1"], 1),
    ):
        text = printed(capsys, "kubernetes", "--image", "farm", "--", *words)
        [said] = re.findall(r"^ +args: (.*)$", text, re.MULTILINE)
        assert json.loads(said) == ["worker", *args, "--key", "/run/tradewind/key"]
        assert f'              cpu: "{cores}"\n' in text
        assert "limits" not in text
        assert f"terminationGracePeriodSeconds: {23 if len(words) > 1 else 45}\n" in text


def test_the_secret_is_printed_only_when_its_file_is_named(
    folder: KeyFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = ["kubernetes", "--image", "farm"]
    shown = printed(capsys, *image, "--name", "pods", "--", "work")
    assert shown.startswith("# Before: kubectl create secret generic pods-key --from-file=key=FILE.key_secret\n")
    shown = printed(capsys, *image, "--key", "pods.key_secret", "--", "work")
    content = re.findall(r"^  key: \|\n((?:    .*\n|\n)+)---$", shown, re.MULTILINE)[0]
    (tmp_path / "mounted").touch(mode=0o600)
    (tmp_path / "mounted").write_text(re.sub("^    ", "", content, flags=re.MULTILINE))
    assert load(tmp_path / "mounted").secret == load(Path("pods.key_secret")).secret
    with pytest.raises(OperatorError, match="which is each machine itself: give --sink HOST behind --"):
        printed(capsys, *image, "--key", str(folder.local(WORKER)), "--", "work")
    printed(capsys, *image, "--key", str(folder.local(WORKER)), "--", "work", "--sink", "farm")


@pytest.mark.parametrize("name", ["Pods", "-pods", "pods-", "pods.v1", "a" * 60, "a: b"])
def test_a_name_that_kubernetes_would_refuse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OperatorError, match="--name"):
        printed(capsys, "kubernetes", "--image", "farm", f"--name={name}", "--", "work")


@pytest.mark.parametrize("image", ["", " ", "a b", "-a"])
def test_what_is_no_image(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, option in (("kubernetes", "--image"), ("container", "--from")):
        with pytest.raises(OperatorError, match=f"^{option} '{image}': give the name of an image"):
            printed(capsys, command, f"{option}={image}", "--", "work")


# -- containers ---------------------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say(folder: KeyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    Path("Containerfile").write_text(printed(capsys, "container", "--", *WORDS))
    found = subprocess.run([tool("hadolint"), "Containerfile"], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_containerfile_has_the_modules_and_not_the_keys(
    folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("package").mkdir()
    text = printed(capsys, "container", "--", "work", "work:other", "package.part:one", "--slots", "2")
    copies = re.findall(r"^COPY (.*)$", text, re.MULTILINE)
    assert copies[1:] == ["work.py ./", "package/ ./package/"]
    [said] = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    assert json.loads(said)[:1] + json.loads(said)[-4:] == ["worker", "--slots", "2", "--key", "-"]
    assert not re.search(r"^(ADD|COPY \.)", text, re.MULTILINE)
    assert shlex.split(re.findall(r"^USER (.*)$", text, re.MULTILINE)[0]) == ["10001:10001"]


def test_a_module_that_is_not_in_this_folder_is_a_warning(
    folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("work.py").touch()
    command: Any = typer.main.get_command(app)
    command.main(["container", "--", "work", "numpy", "numpy:cos"], prog_name="crew", standalone_mode=False)
    shown = capsys.readouterr()
    assert "COPY work.py ./\nCOPY numpy.py ./\n" in shown.out
    assert shown.err == (
        "crew: numpy.py is not in this folder: build where it is, or take its COPY line out if the module is an"
        " installed one\n"
    )


def test_a_module_of_pythons_own_is_not_copied(folder: KeyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    command: Any = typer.main.get_command(app)
    command.main(["container", "--", "json", "os.path:join"], prog_name="crew", standalone_mode=False)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert len(re.findall(r"^COPY .*\.whl /tmp/$", shown.out, re.MULTILINE)) == shown.out.count("COPY") == 1
    assert "\nWORKDIR /srv/farm\nUSER" in shown.out
    Path("json.py").touch()
    assert "\nCOPY json.py ./\nUSER" in printed(capsys, "container", "--", "json")
