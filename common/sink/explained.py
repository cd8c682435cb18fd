"""An explanation in words: how the job stands, where the task is, and the first true cause why nothing moves.

The causes are those of the waits (`common/causes.py`). No socket, no clock.
"""

from .. import causes
from ..causes import Cause
from ..pace import duration
from ..plain_text import counted, host_port
from ..protocol.explaining import Account, Explanation, Holder, TaskPlace
from ..protocol.settings import what_serves


def lines(found: Explanation) -> list[str]:
    """What `explain` prints: where the task is, the cause, if there is one, and how the job stands."""
    cause = None if found.recorded else first_cause(found)
    said = [] if found.task is None else [f"task {found.task:,} {_of_task(found, found.task)}"]
    said += [] if cause is None else [cause.what, f"-> {cause.do}"]
    said.append(_standing(found))
    said += [
        f"{each.worker} runs {_tasks(each.first, each.count)} for {duration(each.seconds)}"
        for each in found.longest
        if found.task is None
    ]
    return said


def first_cause(found: Explanation) -> Cause | None:
    """What keeps the job from going on, the root first; None when nothing does."""
    if found.state != "open" and not found.ventilator:
        return causes.was_cancelled(found.job) if found.state == "cancelled" else None
    if found.is_stuck:
        return causes.records_nothing()
    if not found.ventilator:
        return causes.no_ventilator(found.job)
    account = found.account
    if account is None:
        return causes.ventilator_silent(found.ventilator, duration(found.silent_s))
    if account.phase == "opening":
        return causes.not_opened(found.job)
    if account.phase == "ending":
        return None
    return _of_crew(found) or _of_input(found, account) or _of_places(found, account)


def _of_crew(found: Explanation) -> Cause | None:
    if not found.workers:
        return causes.no_worker_at_all()
    if not found.crew:
        start = f"start one with `python worker.py {what_serves(found.function)}`"
        return causes.no_worker(found.function, found.workers, start, found.near)
    if found.cut_off_count >= found.crew and not found.held:
        first = found.cut_off[0]
        names = [each.worker for each in found.cut_off]
        where = host_port(first.host, first.port)
        return causes.out_of_reach(names, found.cut_off_count, where, first.obstacle, found.relayed)
    return None


def _of_input(found: Explanation, account: Account) -> Cause | None:
    if account.phase == "verifying" and account.input == "dry":
        return causes.input_repeats(found.job, counted(account.read, "task"))
    return causes.input_dry() if account.input == "dry" else None


def _of_places(found: Explanation, account: Account) -> Cause | None:
    if not account.outstanding:
        return None
    if not found.running and found.others and found.busy >= found.slots:
        return causes.slots_busy(found.slots, ", ".join(name for name, _ in found.others))
    if account.in_flight >= account.window:
        return causes.window_full(account.in_flight, found.busy, found.slots)
    return None


def _standing(found: Explanation) -> str:
    of = "" if found.total is None else f" of {found.total:,}"
    failed = f", {found.failed:,} of them failed" if found.failed else ""
    text = f"job {found.job} ({found.function}) is {found.state}: {found.done:,}{of} tasks are recorded{failed}"
    if found.state != "open" and not found.ventilator:
        return text
    account = found.account
    read = "" if account is None else f"; {account.read:,} read, {counted(account.outstanding, 'batch', 'batches')} out"
    crew = f"{counted(found.crew, 'worker')} with {counted(found.slots, 'slot')}"
    return f"{text}{read}; {crew}, {found.held:,} held, {found.running:,} running"


def _of_task(found: Explanation, task: int) -> str:
    """Where the task is."""
    row = found.recorded
    if row is not None:
        return f"is recorded: {row.status}, attempt {row.attempt}, {duration(row.seconds)} on {row.worker}"
    if found.holders:
        return "; ".join(_held(holder) for holder in found.holders) + _history(found)
    if found.total is not None and task >= found.total:
        return f"is not there: the job has {counted(found.total, 'task')}, numbered from 0"
    if found.account is None or found.account.place is None:
        return "is not recorded, and no worker here holds it"
    return _at_ventilator(found.account, found.account.place) + _history(found)


def _held(holder: Holder) -> str:
    batch = "" if holder.batch[1] == 1 else f", in the batch of {_tasks(*holder.batch[:2])}"
    attempt = f", attempt {holder.batch[2]}" if holder.batch[2] > 1 else ""
    if holder.runs_s is not None:
        return f"is with {holder.worker}, which began {duration(holder.runs_s)} ago{batch}{attempt}"
    ahead = f", behind {counted(holder.ahead, 'batch', 'batches')} of this job" if holder.ahead else ""
    return f"waits at {holder.worker}{ahead}{batch}{attempt}"


def _at_ventilator(account: Account, place: TaskPlace) -> str:
    if place.state == "unread":
        return f"is not read yet: the input is read up to task {account.read:,}, as fast as the crew needs tasks"
    if place.state == "ready":
        return "waits at the ventilator until a worker has room"
    if place.state == "returned":
        return f"waits at the ventilator, and is pushed again in {duration(place.wait_s)}"
    if place.state == "retry":
        return f"has failed, and is tried again in {duration(place.wait_s)} (attempt {place.attempt})"
    if place.state == "given":
        return f"is on its way to a worker: no beat has named it; it is pushed again in {duration(place.wait_s)}"
    return "is recorded a moment ago"


def _history(found: Explanation) -> str:
    """What has happened to the task before."""
    place = None if found.account is None else found.account.place
    if place is None:
        return ""
    said = []
    if place.returns:
        said.append(f"handed back {counted(place.returns, 'time')}")
    if place.is_suspect:
        lost = f" {counted(place.lost, 'worker')} died with it" if place.lost else " a worker died that had it"
        said.append(f"suspect:{lost}")
    return f" ({'; '.join(said)})" if said else ""


def _tasks(first: int, count: int) -> str:
    return f"task {first:,}" if count == 1 else f"tasks {first:,} to {first + count - 1:,}"
