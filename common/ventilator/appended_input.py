"""An input of which only the tasks count whose arguments the job has not had."""

from collections import deque

from msgspec import Raw, msgpack

from ..errors import OperatorError
from ..protocol.arguments import input_digest
from .inputs import Input, popped
from .seen import SeenArguments

_TASKS_AT_ONCE = 1_000
_BYTES_AT_ONCE = 1024 * 1024
_each = msgpack.Decoder(list[Raw])


class AppendedInput:
    """The new tasks of `whole`, counted from the job's `base`. There is nothing before all seen arguments are known."""

    def __init__(self, whole: Input, seen: SeenArguments) -> None:
        self.source = whole.source
        self.arguments = whole.arguments
        self._whole = whole
        self._seen = seen
        self._new: deque[bytes] = deque()
        """Encoded arguments that were read and not taken."""
        self._error: OperatorError | None = None
        """Why nothing can be read behind these."""
        self._taken = 0
        self._digest = input_digest()

    @property
    def fresh(self) -> bool:
        """It is no stream: it can be read again."""
        return False

    def begin(self, ledger: str, resumed: bool, mark_digest: bytes) -> list[str]:
        """The job is open."""
        return self._whole.begin(ledger, resumed, mark_digest)

    def verified(self) -> None:
        """It is the input of the earlier run."""
        self._whole.verified()

    def leave(self, is_done: bool) -> list[str]:
        """The run is over."""
        return self._whole.leave(is_done)

    @property
    def expected(self) -> int | None:
        """Tasks of the job, as far as they are known: what was not read counts as new."""
        expected = self._whole.expected
        return None if expected is None else self._seen.base + expected - self._seen.skipped_count

    @property
    def is_estimate(self) -> bool:
        """True until all was read: what is left may have been seen."""
        return not self._whole.ended

    @property
    def ended(self) -> bool:
        """True once the last new task was taken."""
        self._look_for(1)
        return self._whole.ended and not self._new and self._error is None

    def fileno(self) -> int | None:
        """The descriptor to wait for, while there may be more to read."""
        return self._whole.fileno()

    def fill(self) -> None:
        """Read what is there, once."""
        self._whole.fill()

    def available(self, count: int = 1) -> bool:
        """True when `count` new tasks can be taken without reading, or fewer because there will be no more."""
        self._look_for(count)
        if self._error is not None and not self._new:
            raise self._error
        here = len(self._new)
        return here >= count or (here > 0 and (self._whole.ended or self._error is not None))

    def skip(self, count: int) -> int:
        """Pass over up to `count` of the tasks that are there; returns how many."""
        return len(self._consume(count, None))

    def take(self, count: int, bytes_max: int) -> tuple[int, Raw]:
        """Up to `count` of the tasks that are there, at least one, fewer when they exceed `bytes_max`."""
        taken = self._consume(count, bytes_max)
        return len(taken), Raw(msgpack.encode([Raw(argument) for argument in taken]))

    def mark(self) -> tuple[int, bytes]:
        """The number of the next task, and the digest of the tasks that were taken or passed over."""
        return self._seen.base + self._taken, self._digest.copy().digest() if self._taken else b""

    def _look_for(self, count: int) -> None:
        """Read on, as far as that is possible without waiting, until this many new tasks are here."""
        try:
            while self._seen.complete and len(self._new) < count and self._error is None and self._whole.available():
                _, arguments = self._whole.take(_TASKS_AT_ONCE, _BYTES_AT_ONCE)
                self._new += filter(self._seen.is_new, map(bytes, _each.decode(arguments)))
        except OperatorError as error:
            self._error = error

    def _consume(self, count: int, bytes_max: int | None) -> list[bytes]:
        taken = popped(self._new, count, bytes_max)
        self._digest.update(b"".join(taken))
        self._taken += len(taken)
        return taken
