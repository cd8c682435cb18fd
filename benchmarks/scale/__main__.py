"""What a crew of thousands costs a sink: each message, a second of 10,000 workers, and 1,000 that really join.

python -m benchmarks.scale                  what each kind of message costs the rules, and through real sockets
python -m benchmarks.scale --simulate       messages and processor time a second, counted by the simulator
python -m benchmarks.scale --join 1000      this many real links join, do a job, and join again
"""

import argparse

from benchmarks.scale import costs, join, model, rates, ventilator, wire
from common import own_process

NAMES = (0, 1, 2, 16, 128)
SCENES = ((100, 1, 60.0), (40, 8, 60.0), (10, 64, 60.0), (100, 1, 1.0), (20, 8, 1.0), (10, 1, 0.02))
"""Workers that are simulated, slots, seconds of a task (of a batch, where tasks are tiny)."""


def main() -> None:
    """Print one table or several."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workers", type=int, default=10_000, help="workers of the crew (default: 10,000)")
    parser.add_argument("--jobs", type=int, default=4, help="jobs that all of them serve (default: 4)")
    parser.add_argument("--simulate", action="store_true", help="also what they are a second")
    parser.add_argument("--join", type=int, metavar="WORKERS", help="only let this many workers really join")
    parser.add_argument("--task-s", type=float, default=1.0, help="with --join: how long a task takes (default: 1)")
    options = parser.parse_args()
    if options.join:
        _show_joined(join.measure(options.join, options.task_s, 5.0))
        return
    own_process.collect_seldom()
    found = costs.measure(options.workers, options.jobs, options.workers, NAMES)
    _show_costs(f"the sink's rules, {options.workers:,} workers, {options.jobs} jobs", found)
    _show_costs("a ventilator's rules, workers with a slot", list(ventilator.measure(options.workers, 1)))
    _show_costs("a ventilator's rules, with 64 slots", list(ventilator.measure(options.workers // 10, 64)))
    for names in NAMES:
        held = costs.memory(min(options.workers, 2_000), options.jobs, names)
        print(f"memory of the sink's rules for a worker that holds {names} batches of each job: {held / 1000:.1f} KB")
    wires = {jobs: wire.measure(jobs, [1_000, 10_000]) for jobs in (0, options.jobs)}
    for each in (each for found in wires.values() for each in found):
        print(
            f"real sockets, {each.jobs} jobs, {each.beats_per_s:,.0f} beats/s, {each.heard_count / each.beat_count:.0%}"
            f" heard: {each.rules_micros:.0f} us a beat in the"
            f" thread of the rules, {each.io_micros:.0f} in libzmq's; {each.crew_count / each.beat_count:.2f} messages"
            " to ventilators a beat"
        )
    if options.simulate:
        alone = costs.measure(1_000, 0, 1_000, ())
        _show_loads(options.workers, options.jobs, found, model.wire_micros(wires[0][-1], _first_beat(alone)))


def _first_beat(found: list[costs.Cost]) -> float:
    return model.micros_of(found)["first beat"]


def _show_costs(title: str, found: list[costs.Cost]) -> None:
    print(f"\n{title}:")
    for cost in found:
        bytes_ = f"{cost.in_bytes / cost.count:>9,.0f} B in {cost.sent_bytes / cost.count:>11,.0f} B out"
        print(f"{cost.what:<45}{cost.micros:>12,.1f} us {bytes_}  {cost.answers()}")


def _show_loads(workers: int, jobs: int, found: list[costs.Cost], a_message: float) -> None:
    micros = model.micros_of(found)
    print(f"\na message through a CURVE socket costs {a_message:.1f} us; {workers:,} workers, {jobs} jobs, a second:")
    for simulated, slots, task_s in SCENES:
        seen = rates.measure(simulated, slots, task_s, jobs)
        rows = model.loads(seen, workers, micros, a_message)
        cores = sum(each.cores for each in rows)
        mb = seen.per_worker(seen.received_bytes + seen.sent_bytes) * workers / 1e6
        print(f"{slots} slots, {task_s:g} s: {cores:.2f} cores, {mb:.1f} MB; a core at {workers / cores:,.0f} workers")
        for each in rows:
            print(
                f"    {each.kind:<22}{each.per_s:>10,.0f} in {each.answers_per_s:>10,.0f} out {each.cores:>7.2f} cores"
            )


def _show_joined(found: join.Joined) -> None:
    print(
        f"{found.workers:,} workers have joined after {found.joined_s:.1f} s; the sink took {found.join_cpu_s:.1f} s of"
        f" processor time, and {found.worker_bytes / 1000:.0f} KB for each\n"
        f"while they do nothing it takes {found.idle_cpu:.2f} of a core\n"
        f"{found.tasks:,} tasks: {found.job_s:.1f} s, all recorded, {found.returns:,} returns; sink"
        f" {found.job_cpu_s:.1f} s of processor time\n"
        f"killed and started again: all have joined after {found.rejoined_s:.1f} s, {found.rejoin_cpu_s:.1f} s of it\n"
        f"longest silence before that: {found.silence_s:.1f} s"
    )


if __name__ == "__main__":
    main()
