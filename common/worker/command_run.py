"""Runs commands that the worker's operator has named, for a child that serves them like functions.

Children load this file by its path, so it imports nothing of ours. It takes what it needs of `os` before the user's
modules may replace it.
"""

import errno
import os
import secrets
import select
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from time import sleep
from typing import Any, Protocol

STDOUT_KEPT = 1024 * 1024
STDERR_KEPT = 64 * 1024
"""At most how many bytes a result has of each; of more, the first half and the last."""
_ERROR_LINES = 20
_READ_BYTES = 64 * 1024
_AFTERWARDS_MAX = 1024 * 1024
"""What pipes hold when a command has ended, and not what something that it has left behind goes on to write."""
_LOOK_MS = 10
"""How often to look whether the command has ended, where there are no descriptors for processes."""
_TOGETHER_S = 0.25
"""Within this time a SIGTERM that is meant for all processes of a worker reaches this one too."""
_NOT_RUN = (126, 127)
"""With which exit codes shells and their like say that they cannot run a program."""
_read, _write, _waitpid, _poll, _spawn = os.read, os.write, os.waitpid, select.poll, os.posix_spawn
_pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)


Starting = Callable[[], AbstractContextManager[None]]
"""In such a context processes are started: they inherit the limits that tasks have."""


class Fillable(Protocol):
    """A `command_template.Template`."""

    def fill(self, argument: Any, task: int) -> list[bytes]: ...


class CommandFailed(Exception):
    """The command has ended with something else than exit code 0; the text says with what."""

    def __init__(self, text: str, do_not_retry: bool = False) -> None:
        super().__init__(text)
        self.do_not_retry = do_not_retry


class Kept:
    """What a command has written: all of it, or its beginning and its end."""

    def __init__(self, most: int, file: "OutputFile | None") -> None:
        self.count = 0
        self._half = most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._file = file

    def add(self, chunk: bytes) -> None:
        """Take what was read."""
        self.count += len(chunk)
        if self._file is not None:
            self._file.write(chunk)
        room = self._half - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        # Not each time, because it moves all that is kept.
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    @property
    def is_cut(self) -> bool:
        """True when not all of it is kept."""
        return self.count > 2 * self._half

    def value(self) -> str | bytes:
        """As text if it is UTF-8."""
        if self.is_cut:
            left_out = b"\n[%d bytes left out]\n" % (self.count - 2 * self._half)
            return b"".join((self._head, left_out, self._tail[-self._half :])).decode(errors="replace")
        whole = bytes(self._head + self._tail)
        try:
            return whole.decode()
        except UnicodeDecodeError:
            return whole

    def last_lines(self, count: int) -> list[str]:
        """Its last lines."""
        text = bytes(self._head + self._tail if not self.is_cut else self._tail).decode(errors="replace")
        return text.rstrip().splitlines()[-count:]


class OutputFile:
    """A file that takes its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_whole = False
        # Another run of the task may write just now, here or on a machine that shares the folder.
        self._draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        self._descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, chunk: bytes) -> None:
        """Append it."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[_write(self._descriptor, rest) :]

    def finish(self) -> None:
        """Give it its name."""
        self._draft.replace(self.path)
        self._is_whole = True

    def close(self) -> None:
        """Leave nothing of it that has no name yet."""
        os.close(self._descriptor)
        if not self._is_whole:
            self._draft.unlink(missing_ok=True)


class OutputFolder:
    """Where the outputs of tasks are written whole: a folder for each job, three files for each task."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def files(self, job: str, task: int, stack: ExitStack) -> tuple[OutputFile, ...]:
        """Standard output, standard error, exit code; closed with the stack."""
        if not job or job.startswith(".") or "/" in job or "\0" in job:
            raise CommandFailed(f"job {job!r} cannot be the name of a folder", do_not_retry=True)
        folder = self._folder / job
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made = (OutputFile(folder / f"{task}.{what}") for what in ("stdout", "stderr", "exit_code"))
            return tuple(stack.enter_context(closing(file)) for file in made)
        except OSError as error:
            raise CommandFailed(f"the worker's --output-dir cannot be written: {error}") from None


class NamedCommand:
    """A command as a function of a task's argument."""

    def __init__(self, program: str, template: Fillable, surroundings: "Surroundings") -> None:
        self._program = program
        self._template = template
        self._surroundings = surroundings

    def __call__(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Run it to its end. Raises CommandFailed."""
        around, task = self._surroundings, self._surroundings.task()
        argument = named or (arguments[0] if len(arguments) == 1 else list(arguments))
        words = self._template.fill(argument, task)
        with ExitStack() as stack:
            files = () if around.folder is None else around.folder.files(around.job, task, stack)
            out = Kept(STDOUT_KEPT, files[0] if files else None)
            err = Kept(STDERR_KEPT, files[1] if files else None)
            try:
                code = self._run(words, around.environment(task), out, err)
                if files:
                    files[2].write(b"%d\n" % (code if code >= 0 else 128 - code))
                for file in files:
                    file.finish()
            except OSError as error:
                what = "the worker's --output-dir cannot be written" if files else f"{self._program} cannot be run"
                raise CommandFailed(f"{what}: {error}") from None
        if code:
            raise _failure(code, err)
        value: dict[str, Any] = {"exit_code": code, "stdout": out.value(), "stderr": err.value()}
        for name, kept in (("stdout", out), ("stderr", err)):
            if kept.is_cut:
                value[f"{name}_bytes"] = kept.count
        if files:
            value |= {"stdout_file": str(files[0].path), "stderr_file": str(files[1].path)}
        return value

    def _run(self, words: list[bytes], environment: Mapping[str, str], out: Kept, err: Kept) -> int:
        """The exit code; the number of a signal is negative."""
        ours, theirs = zip(os.pipe(), os.pipe(), strict=True)
        try:
            with self._surroundings.starting():
                process = _started(self._program, words, environment, theirs)
        except OSError as error:
            for descriptor in (*ours, *theirs):
                os.close(descriptor)
            raise self._not_started(error, words) from None
        for descriptor in theirs:
            os.close(descriptor)
        try:
            status = _followed(process, dict(zip(ours, (out, err), strict=True)))
        except BaseException:
            # Its output cannot be kept: the disk is full, or the memory.
            os.kill(process, signal.SIGKILL)
            _waitpid(process, 0)
            raise
        finally:
            for descriptor in ours:
                os.close(descriptor)
        return os.waitstatus_to_exitcode(status)

    def _not_started(self, error: OSError, words: list[bytes]) -> CommandFailed:
        if error.errno == errno.E2BIG:
            size = sum(map(len, words))
            return CommandFailed(
                f"the command has {size} bytes, more than this system gives to a program: pass a file's name instead",
                do_not_retry=True,
            )
        # Without memory or processes it may be possible later.
        is_final = error.errno not in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY)
        return CommandFailed(f"{self._program} cannot be started: {error.strerror}", is_final)


class Surroundings:
    """What all commands of a child share: the running task, its job, the environment, limits."""

    def __init__(self, slot: int, output_dir: str | None, starting: Starting, task: Callable[[], int]) -> None:
        self.job = ""
        self.starting = starting
        self.task = task
        self.folder = None if output_dir is None else OutputFolder(output_dir)
        # The worker has taken out what is Tradewind's.
        self._environment = {**os.environ, "TRADEWIND_SLOT": str(slot)}

    def environment(self, task: int) -> Mapping[str, str]:
        """The environment of a command."""
        return {**self._environment, "TRADEWIND_JOB": self.job, "TRADEWIND_TASK": str(task)}


def _started(program: str, words: list[bytes], environment: Mapping[str, str], outputs: tuple[int, ...]) -> int:
    """The process, in this one's process group: whoever ends that ends all of the command. Raises OSError."""
    return _spawn(
        program,
        words,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, outputs[0], 1),
            (os.POSIX_SPAWN_DUP2, outputs[1], 2),
        ],
        # Python ignores these, and programs expect to end by them.
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        setsigmask=(),
    )


def _followed(process: int, pipes: Mapping[int, Kept]) -> int:
    """Read what the process writes until it ends; how it ended, as `waitpid` says it.

    What it leaves behind may keep the pipes open, and is not waited for.
    """
    news = _poll()
    for descriptor in pipes:
        os.set_blocking(descriptor, False)
        news.register(descriptor, select.POLLIN)
    end = None if _pidfd_open is None else _pidfd_open(process)
    if end is not None:
        news.register(end, select.POLLIN)
    try:
        while True:
            ready = [descriptor for descriptor, _ in news.poll(None if end is not None else _LOOK_MS)]
            found, status = (0, 0)
            if end is None or end in ready:
                found, status = _waitpid(process, os.WNOHANG)
            for descriptor in pipes:
                if found:
                    _drain(descriptor, pipes[descriptor], _AFTERWARDS_MAX)
                elif descriptor in ready and not _drain(descriptor, pipes[descriptor], _READ_BYTES):
                    news.unregister(descriptor)
            if found:
                return status
    finally:
        if end is not None:
            os.close(end)


def _drain(descriptor: int, kept: Kept, most: int) -> bool:
    """Read what is there, about `most` bytes; False at the end."""
    while most > 0:
        try:
            chunk = _read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        kept.add(chunk)
        most -= len(chunk)
    return True


def _failure(code: int, err: Kept) -> CommandFailed:
    if code == -signal.SIGTERM:
        # If all processes of the worker are told to end, it hands the task back instead of this failure.
        sleep(_TOGETHER_S)
    lines = err.last_lines(_ERROR_LINES)
    said = f": {lines[-1].strip()}" if lines else ", and nothing on standard error"
    text = "\n".join((_ending(code) + said, *(("", *lines) if len(lines) > 1 else ())))
    return CommandFailed(text, do_not_retry=code in _NOT_RUN)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
