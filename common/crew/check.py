"""Looks at each host of a crew: `doctor` runs there, through ssh, and starts no worker."""

import asyncio
from collections.abc import Sequence

from .. import __version__, console
from ..errors import ExitCode
from ..protocol.users import WORKER
from . import host_table
from .host_table import HostReport
from .remote import Way
from .ssh_loop import STARTING_MAX
from .why import SSH_FAILED, why
from .worker_line import WorkerLine

_HOST_S = 90.0
"""How long a host may take: its modules have a minute to be imported."""
_SAID_BYTES = 1024 * 1024
"""How much of what a host says is kept: the last of it."""


async def examine(hosts: Sequence[str], way: Way, line: WorkerLine, key: str) -> ExitCode:
    """Look at all hosts, and print the table."""
    words = [*line.modules, "--as", WORKER, "--json", *(["--sink", line.sink] if line.sink else [])]
    room = asyncio.Semaphore(STARTING_MAX)

    async def one(host: str) -> HostReport:
        async with room:
            return await _report(host, way, way.command(host, "doctor", words), key.encode())

    reports = await asyncio.gather(*(one(host) for host in hosts))
    with console.pipe_may_close():
        print("\n".join(host_table.table(reports, __version__, line.slots)))
    return ExitCode.TASKS_FAILED if any(report.fails for report in reports) else ExitCode.OK


async def _report(host: str, way: Way, command: Sequence[str], key: bytes) -> HostReport:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(key)
    process.stdin.close()
    reads = [asyncio.create_task(_last_of(stream)) for stream in (process.stdout, process.stderr)]
    if (await asyncio.wait(reads, timeout=_HOST_S))[1]:
        process.kill()
    out, err = [await read for read in reads]
    printed, errors = (text.decode(errors="replace").splitlines() for text in (out, err))
    said = host_table.read(printed)
    if said is not None:
        return HostReport(host, is_connected=True, said=said)
    code = await process.wait()
    cause = why(host, way, code, errors, False)
    return HostReport(host, cause, is_connected=code not in (SSH_FAILED, -9))


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    """The last of what comes until its end."""
    content = b""
    while piece := await stream.read(64 * 1024):
        content = (content + piece)[-_SAID_BYTES:]
    return content
