"""The loop of `crew ssh`: what becomes of a host whose ssh cannot even be started."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from common import console
from common.crew import ssh_loop
from common.crew.host import LINES_A_MINUTE_MAX
from common.crew.remote import Way
from common.crew.ssh_loop import SshCrew
from common.log_line import LogLine


def test_a_ssh_that_cannot_be_started_is_tried_again_and_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = SshCrew(["lab1"], Way(ssh=("/no/such/ssh",)), ["mine"], "key")
    lines: list[LogLine] = []

    def write(_: Any, line: LogLine) -> None:
        lines.append(line)
        crew._leaves.set()

    async def wait(*_: Sequence[Any]) -> None:
        return

    monkeypatch.setattr(ssh_loop, "write", write)
    monkeypatch.setattr(ssh_loop, "_wait", wait)
    asyncio.run(crew._serve(crew._hosts[0]))
    [line] = lines
    assert line.level == "warning"
    assert line.text.startswith("ssh to lab1 fails (it cannot be started here: No such file or directory)")
    assert line.text.endswith("trying again in 1 s")


def test_what_a_host_prints_without_end_is_passed_on_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho 'worker: here'\nseq {LINES_A_MINUTE_MAX + 9}\nkill -9 $$\n")
    ssh.chmod(0o755)
    lines: list[str] = []
    monkeypatch.setattr(console, "pass_on", lines.append)
    crew = SshCrew(["lab1"], Way(ssh=(str(ssh),)), ["mine"], "key")
    asyncio.run(crew._attempt(crew._hosts[0]))
    assert lines[:2] == ["lab1: worker: here", "lab1: 1"]
    assert lines[LINES_A_MINUTE_MAX:] == ["lab1: 10 more like the last lines were not logged"]
