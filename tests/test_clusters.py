"""The page on clusters: its recipes are what the commands print, and its commands are what a worker takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.crew.worker_line import read
from tests.conftest import PATIENCE_S, TOP
from tests.test_readme import blocks, lines, typed

PAGE = TOP / "docs" / "CLUSTERS.md"
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for line in lines(block)
    if line.startswith("tradewind crew ")
]


def command(heading: str) -> list[str]:
    """The words of the one command of `crew` in this section, without where its output goes."""
    [line] = [line for block in blocks(PAGE, heading) for line in lines(block) if line.startswith("tradewind crew ")]
    return typed(line.partition(" > ")[0])


@pytest.mark.parametrize("line", COMMANDS)
def test_what_stands_behind_the_dashes_is_what_a_worker_takes(line: str) -> None:
    words = typed(line.partition(" > ")[0])
    assert read(words[words.index("--") + 1 :]).modules == ("mine",)


@pytest.mark.parametrize(("heading", "language"), [("systemd", "ini"), ("Containers", "dockerfile")])
def test_a_recipe_of_the_page_is_what_its_command_prints(heading: str, language: str, tmp_path: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "common", *command(heading)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert [printed.stdout] == blocks(PAGE, heading, language), printed.stderr


def test_the_manifest_goes_with_the_secret_of_the_page(tmp_path: Path) -> None:
    [secret] = re.findall(r"^kubectl create secret generic (\S+) --from-file=(\w+)=", PAGE.read_text(), re.MULTILINE)
    run = [sys.executable, "-m", "common", *command("Kubernetes")]
    printed = subprocess.run(run, cwd=tmp_path, env={"PYTHONPATH": str(TOP)}, capture_output=True, text=True).stdout
    assert f"secretName: {secret[0]}\n" in printed
    assert f"/run/tradewind/{secret[1]}" in printed
    [deployment] = re.findall(r"kubectl scale deployment (\S+) ", PAGE.read_text())
    assert f"\n  name: {deployment}\n" in printed
