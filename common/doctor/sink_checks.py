"""The verdicts of `sink.py doctor`: the sink's files, its disk, and whether it answers. No socket, no file."""

from .. import causes
from ..plain_text import counted, host_port
from ..protocol.sink_addresses import is_here
from .checks import HERE, Check, Judged, crew, ok, records, said, unheard
from .facts import Facts

SYNC_MAX_S = 0.05
FREE_LEAST_BYTES = 100 * 1024 * 1024
FREE_FEW_BYTES = 2 * 1024**3
LOG_MAX_BYTES = 256 * 1024 * 1024
"""A sink restarts the log at 4 MB; it grows on while somebody reads the ledger without a pause."""
_NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "ocfs2", "gfs2", "ncpfs")
)
_NETWORK_FUSE = ("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs")


def _folder(facts: Facts) -> Judged | None:
    folder = facts.folder
    if folder is None:
        return None
    if folder.fault:
        return said("FAIL", folder.fault)
    if not folder.exists:
        return ok(f"{folder.path} is not there yet: the sink's first start makes it")
    return ok(f"{folder.path}: {counted(folder.enrolled, 'key')} enrolled")


def _server(facts: Facts) -> Judged | None:
    server = facts.server
    if server is None:
        return None
    if server.fault:
        return said("FAIL", server.fault)
    if not server.is_durable:
        return (
            "warn",
            f"PostgreSQL {server.version} runs with fsync or full_page_writes off: a power cut takes results back",
            "set both to on in postgresql.conf",
        )
    return ok(f"PostgreSQL {server.version} with {server.driver} answers within {server.answer_s * 1000:,.0f} ms")


def _ledger(facts: Facts) -> Judged | None:
    if (server := facts.server) is not None:
        if not server.is_made:
            return ok(f"{server.name} is not there yet: the sink's first start makes it")
        by = f", held by {server.sink}" if server.sink else ", held by no sink"
        return ok(f"{server.name}{by}; the tables of all sites have {server.size_bytes:,} bytes")
    ledger = facts.ledger
    if ledger is None:
        return None
    if ledger.fault:
        return said("FAIL", ledger.fault)
    if ledger.write_error:
        return "FAIL", f"cannot write beside the ledger {ledger.path}", ledger.write_error
    if not ledger.exists:
        return ok(f"{ledger.path} is not there yet: the sink's first start makes it")
    by = f", open in {ledger.sink}" if ledger.sink else ""
    return ok(f"{ledger.path}: {ledger.file_bytes:,} bytes{by}")


def _file_system(facts: Facts) -> Judged | None:
    ledger = facts.ledger
    if ledger is None:
        return None
    if not ledger.file_system:
        return "unknown", "this system does not say what file system the ledger is on", ""
    if ledger.file_system in _NETWORK_FILE_SYSTEMS or ledger.file_system.startswith(_NETWORK_FUSE):
        return (
            "FAIL",
            f"the ledger {ledger.path} is on a network file system ({ledger.file_system}), which damages it",
            "put it on a disk of the sink's machine: --ledger FILE",
        )
    return ok(ledger.file_system)


def _room(facts: Facts) -> Judged | None:
    ledger = facts.ledger
    if ledger is None or ledger.free_bytes is None:
        return None
    text = f"{ledger.free_bytes / 1024**2:,.0f} MB are free where the ledger {ledger.path} is"
    if ledger.free_bytes < FREE_LEAST_BYTES:
        return "FAIL", f"the disk is full: {text}", "make room there, or `python sink.py forget` jobs"
    if ledger.free_bytes < FREE_FEW_BYTES:
        return "warn", text, "make room there before it is full"
    return ok(text)


def _lock(facts: Facts) -> Judged | None:
    ledger = facts.ledger
    if ledger is None or not ledger.exists:
        return None
    if not ledger.has_locks:
        return "unknown", "this system does not say which programs hold locks", ""
    if ledger.locker is not None:
        return (
            "FAIL",
            f"{ledger.locker} has the ledger {ledger.path} locked: the sink cannot write it",
            "end that program, or let it commit",
        )
    return ok("no other program keeps it from being written")


def _log(facts: Facts) -> Judged | None:
    ledger = facts.ledger
    if ledger is None or not ledger.exists:
        return None
    text = f"the write-ahead log has {ledger.log_bytes / 1024**2:,.0f} MB"
    if ledger.log_bytes > LOG_MAX_BYTES:
        return (
            "warn",
            text,
            "a program reads the ledger without a pause, or the sink was killed: end it, start the sink",
        )
    return ok(text)


def _sync(facts: Facts) -> Judged | None:
    ledger = facts.ledger
    if ledger is None or ledger.sync_s is None:
        return None
    text = f"the disk takes {ledger.sync_s * 1000:,.1f} ms to keep a write"
    if ledger.sync_s > SYNC_MAX_S:
        return "warn", text, "put the ledger on a faster disk: each commit waits for it"
    return ok(text)


def _own_port(facts: Facts) -> Judged | None:
    """The sink's own port, on its machine: somebody listens there, who should be the sink."""
    key, port = facts.key, facts.control
    if key is None or port is None:
        return None
    server = facts.server
    runs = (facts.ledger is not None and facts.ledger.sink is not None) or (server is not None and server.sink_is_here)
    if port.is_foreign:
        return _another_program(key.address)
    if port.state == "open":
        return ok(f"{host_port(port.host, port.port)} takes connections")
    if runs:
        return "FAIL", *unheard(port, "the sink runs, and is not reached", key.role)
    if server is not None and server.sink and port.state == "refused":
        return ok(f"{host_port(port.host, port.port)} is closed, as a standby's is: {server.sink} serves the site")
    detail = "connection refused" if port.state == "refused" else port.reason
    return said("warn", causes.no_sink(key.address, is_here(key.address), detail))


def _own_answer(facts: Facts) -> Judged | None:
    """What listens at the sink's own port: the sink, a sink that stands still, or another program."""
    key, joining = facts.key, facts.joining
    if key is None or joining is None:
        return None
    sink = facts.ledger.sink if facts.ledger else None
    if not joining.fault:
        return ok(f"the sink at {key.address} answers")
    if sink is not None and not joining.is_final:
        return (
            "FAIL",
            f"the sink runs as {sink} and does not answer: it is stopped, or its machine is overloaded",
            f"let it go on with `kill -CONT {sink.pid}`, or end it and start it again",
        )
    if joining.is_final:
        return said("FAIL", joining.fault)
    if facts.ledger is not None and not facts.ledger.has_locks:
        return said("FAIL", causes.silent_port(key.address))
    return _another_program(key.address)


def _another_program(address: str) -> Judged:
    return (
        "FAIL",
        f"another program listens at {address}",
        "end it, or start the sink with --control-port and --results-port",
    )


OF_SINK = (
    *HERE,
    Check("key folder", _folder),
    Check("ledger's disk", _file_system),
    Check("room", _room),
    Check("ledger's lock", _lock),
    Check("server", _server),
    Check("ledger", _ledger, ("server",)),
    Check("ledger's log", _log, ("ledger",)),
    Check("disk's speed", _sync),
    Check("sink's port", _own_port, ("key folder",)),
    Check("answer", _own_answer, ("sink's port",)),
    Check("records", records, ("answer",)),
    Check("crew", crew, ("answer",)),
)
