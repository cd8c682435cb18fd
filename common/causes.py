"""Why nothing happens, and what to do: the words of the roles that wait, and of `doctor` and `explain`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong, and what to do about it."""

    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.what}: {self.do}"


# -- a role cannot join its sink ----------------------------------------------------------------------------------


def no_such_name(address: str, key_file: str) -> Cause:
    """The sink's name has no address on this machine."""
    return Cause(
        f"the name in {address} does not resolve to an address",
        f"fix the sink's name with --sink or in {key_file}, or this machine's DNS",
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
