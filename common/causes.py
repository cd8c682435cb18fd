"""Why nothing happens, and what to do: the words of the roles that wait, and of `doctor` and `explain`."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong, and what to do about it."""

    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.what}: {self.do}"


# -- a role cannot join its sink ----------------------------------------------------------------------------------


def no_such_name(address: str, key_file: str | None) -> Cause:
    """The sink's name, which this key file or else --sink gives, has no address on this machine."""
    return Cause(
        f"the name in {address} does not resolve to an address",
        f"fix the sink's name with --sink{f' or in {key_file}' if key_file else ''}, or this machine's DNS",
    )


def no_sink(address: str, is_here: bool, detail: str = "") -> Cause:
    """Nothing listens there. On another machine nobody here knows where a checkout is."""
    where, command = ("in its folder", "python sink.py") if is_here else ("there, in its folder,", "tradewind sink")
    return Cause(
        f"no sink answers at {address}{f' ({detail})' if detail else ''}",
        f"start it {where} with `{command}`, or name its address with --sink",
    )


def silent_port(address: str) -> Cause:
    """Something listens there, and says nothing."""
    return Cause(
        f"connected to {address}, but no sink answers there",
        "it is stopped, or that is not its control port (--sink)",
    )


def sink_away(address: str) -> Cause:
    """The sink was there before."""
    return Cause(f"the sink at {address} does not answer", "results are kept until it is back")


def key_refused(address: str, key_file: str, role: str, is_here: bool) -> Cause:
    """The sink does not know the key."""
    command = "python sink.py" if is_here else "tradewind sink"
    return Cause(
        f"the sink at {address} refuses this key ({key_file})",
        f"it is not enrolled there, or was revoked; in that sink's folder `{command} enrol {role} NAME` makes a new key"
        " file",
    )


def another_key(address: str, key_file: str, handshakes_max: int) -> Cause:
    """The key file is of another sink."""
    return Cause(
        f"the sink at {address} has another key than {key_file} says",
        "give that sink's own key file with --key, its control port with --sink, or have this machine enrolled by it;"
        f" or this key has connected there {handshakes_max:,} times in this minute: wait for the next one",
    )


def no_tradewind(address: str) -> Cause:
    """Another program listens there."""
    return Cause(f"the program at {address} is not a Tradewind sink", "give the sink's host with --sink")


# -- a job does not move --------------------------------------------------------------------------------------------


def records_nothing() -> Cause:
    """The sink's ledger accepts no results."""
    return Cause(
        "the sink records nothing, because its ledger accepts no results",
        "its log says why; `python sink.py doctor` there looks for the cause",
    )


def no_worker_at_all() -> Cause:
    """The crew is empty."""
    return Cause("no worker is here", "start one with `python worker.py MODULE`")


def no_worker(function: str, others: int, start: str, near: Sequence[str] = ()) -> Cause:
    """Nobody exposes the function; `start` says how one that does is started, `near` which similar ones there are."""
    what = f"no worker exposes {function}"
    if not others:
        return Cause(what, start)
    alike = f" (such as {', '.join(near)})" if near else ""
    return Cause(f"{what}; workers here ({others}) expose other functions{alike}", f"check the name, or {start}")


OBSTACLES = {
    "silence": "let workers connect to that port (firewall, NAT), or run the ventilator where they can",
    "name": "that name has no address there: enrol those workers with the sink's address",
    "handshake": "something else answers there, or does not know their keys",
}
"""What to do when workers cannot connect to a ventilator, by what they meet."""


def out_of_reach(workers: Sequence[str], count: int, where: str, obstacle: str, relayed: bool = False) -> Cause:
    """Workers cannot connect to the ventilator, or the relay, at `where`; these are some of `count`."""
    more = f" and {count - len(workers)} more" if count > len(workers) else ""
    who = f"worker{'s' if count > 1 else ''} {', '.join(workers)}{more}"
    if relayed:
        advice = "let workers connect to that port of the sink's machine (firewall)"
        return Cause(f"{who} cannot connect to the sink's relay at {where}", advice)
    return Cause(f"{who} cannot connect to this ventilator at {where}", OBSTACLES[obstacle])


def not_opened(job: str) -> Cause:
    """The sink has not answered `Open`, or not yet with all receipts."""
    return Cause(f"waiting for the sink to open job {job}", "its log says why it has not")


def input_repeats(job: str, tasks: str) -> Cause:
    """A resumed job reads again what it has read before, `tasks` so far."""
    return Cause(
        f"the input has not brought again what job {job} has read before ({tasks} so far)",
        "waiting for the rest; what goes on instead needs --stream",
    )


def input_dry() -> Cause:
    """The input may go on, and does not."""
    return Cause("the input has no new line", "waiting for the next one, or for its end")


def no_ventilator(job: str) -> Cause:
    """The job is open in the ledger, and nobody runs it."""
    return Cause(f"no ventilator runs job {job}", f"run its command again, with --job {job}")


def was_cancelled(job: str) -> Cause:
    """The job ended by `cancel`."""
    return Cause(f"job {job} was cancelled", f"its command goes on with it, with --job {job}")


def ventilator_silent(where: str, silent: str) -> Cause:
    """A ventilator is connected, and does not answer."""
    return Cause(
        f"the ventilator at {where} does not answer (last heard {silent} ago)",
        "see whether it is stopped, or its machine is overloaded; run its command again when it is gone",
    )


def slots_busy(slots: int, jobs: str) -> Cause:
    """All slots that could run the job run others."""
    return Cause(
        f"all {slots} slots that could run it run other jobs ({jobs})",
        "its turn comes when one of them is free; more workers make it sooner",
    )


def window_full(in_flight: int, busy: int, slots: int) -> Cause:
    """The crew has as many batches as it takes."""
    return Cause(
        f"the crew has all the batches that it takes ({in_flight}; {busy} of {slots} slots run)",
        "the next ones follow when these are done; more workers make it sooner",
    )
