"""The numbers that all roles use: defaults in one place, units in the names, relations checked."""

from dataclasses import dataclass

BATCH_TASKS_MAX = 100_000
"""At most how many tasks a batch has."""
ROOM_MAX = 1_000
"""At most how many slots, and how much prefetch, a worker has. A ventilator has that many batches ready for it."""
SECONDS_MAX = 1e9
"""The longest time that a message can hold."""
RELAYED_TASKS_PORT = 5555
"""Where workers pull what comes through the sink's relay."""
RELAY_PORT = 5556
"""Where ventilators push that."""
RESULTS_PORT = 5558
CONTROL_PORT = 5559
TASKS_PORT = 5557
MORE_TASKS_PORTS = range(5560, 5600)
"""Where further ventilators on a machine listen, so that a firewall can be opened for them."""
COMMAND = "command"
"""Stands for a module in the names of functions that are commands of a worker's operator."""
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The size limit of a value or argument, and of a frame without its envelope."""
ENVELOPE_BYTES = 64 * 1024
"""How many bytes a message may have beside its payload: names, tickets, CURVE."""
FRAME_BYTES_MAX = 32 * 1024
"""The size limit of a frame that is sent to whoever binds. A larger message goes there in several frames."""
CURVE_BYTES = 33
"""What CURVE adds to each frame."""
HANDSHAKES_A_MINUTE_MAX = 2_000
"""At most how often one key may connect to one link in a minute: twice a crew of a thousand that shares a key.

An enrolled peer that claims the id that libzmq gives next ends the process. It cannot foresee that id, a claim is held
for 10 s at most (the sink's `GREETING_S`), and with this bound it must try for about 18 days without a pause to meet
one.
"""
CUT_CONNECTION_S = 60 / (HANDSHAKES_A_MINUTE_MAX / 2)
"""After workers' connections were cut, how long none are cut again, for each worker that lives.

Each of them connects anew. On a machine that is too busy many workers miss some beats, and if all connected anew each
time, they would do nothing else. The larger the crew, the less a stopped worker gets.
"""


def what_serves(function: str) -> str:
    """What a worker is started with, so that it exposes this function."""
    module, _, name = function.partition(":")
    return f"--command {name}='PROGRAM {{}}'" if module == COMMAND else module


@dataclass(frozen=True, slots=True)
class Timing:
    """The periods of the control link in seconds, the same in all roles."""

    beat_s: float = 1.0
    """The longest time between two beats of a worker."""
    beat_soon_s: float = 0.25
    """The shortest time between two beats, used when what the worker holds has changed."""
    gone_s: float = 5.0
    """How long a worker or ventilator may be silent before it counts as gone."""
    lease_s: float = 10.0
    """How long after the last beat that named a batch the batch is pushed again."""
    unnamed_s: float = 2.5
    """The lease of a batch that no beat has named yet, once a worker has left."""
    silence_s: float = 3.0
    """How long the sink may be silent before it counts as away. Leases do not run out while it is away."""
    gather_s: float = 3.0
    """How long after its start the sink is assumed to know all workers."""
    ask_s: float = 1.0
    """How long the sink waits for new receipts before it answers a request without any."""
    resend_s: float = 10.0
    """How long a worker waits for a receipt before it resends results. The wait doubles each time."""
    resend_max_s: float = 60.0
    """The longest such wait."""
    voice_s: float = 5.0
    """How long a command waits before it logs what it waits for. It repeats the line while the wait lasts."""

    def __post_init__(self) -> None:
        if not self.beat_s < self.lease_s / 3:
            raise ValueError("beat_s must be less than a third of lease_s")
        if not self.beat_s < self.gone_s / 2:
            raise ValueError("beat_s must be less than half of gone_s")
        if not self.gone_s < self.lease_s:
            raise ValueError("gone_s must be less than lease_s")
        if not self.ask_s < self.silence_s:
            raise ValueError("ask_s must be less than silence_s")
