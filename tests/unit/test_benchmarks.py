"""The bench's own rules: what it calls a right ledger, a ratio, a lower bound."""

from pathlib import Path

import pytest

from benchmarks import siege
from benchmarks.farm import SQUARED, Farm
from benchmarks.measuring import MEDIAN, OURS, Figure, Plan, Skipped, interleave, ratios
from benchmarks.peers import sqlite_alone
from benchmarks.report import ratio_of
from benchmarks.scale import costs, ventilator
from benchmarks.scenarios.tail import greedy
from common.sink.sqlite_ledger import Ledger
from tests.unit.writing import open_job

TASKS = 50
COLUMNS = "job, task, status, value, attempt, worker, seconds"


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """A farm without processes, whose ledger holds n·n for one job."""
    ledger = Ledger(str(tmp_path / "results.db"))
    open_job(ledger, "squares", "work:square", f"range 0:{TASKS}")
    rows = [(n, n * n) for n in range(TASKS)]
    ledger._db.executemany(f"INSERT INTO task_rows ({COLUMNS}) VALUES (1, ?, 'ok', ?, 1, 'w', 0.5)", rows)
    ledger._db.execute(f"INSERT INTO receipts (job, first, count, seconds) VALUES (1, 0, {TASKS}, 1.0)")
    ledger.close()
    made = Farm.__new__(Farm)
    made.ledger, made._database = tmp_path / "results.db", ""
    return made


def spoil(farm: Farm, statement: str) -> None:
    ledger = Ledger(str(farm.ledger))
    ledger._db.execute(statement)
    ledger.close()


def test_a_right_ledger_passes(farm: Farm) -> None:
    farm.check("squares", TASKS, SQUARED)
    farm.check_values("squares", [n * n for n in range(TASKS)])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE task_rows SET value = value + 1 WHERE task = 7",
        "UPDATE task_rows SET value = NULL WHERE task = 7",
        "UPDATE task_rows SET status = 'failed' WHERE task = 7",
        "DELETE FROM task_rows WHERE task = 0",
        f"DELETE FROM task_rows WHERE task = {TASKS - 1}",
        f"UPDATE task_rows SET task = {TASKS} WHERE task = 7",
        f"UPDATE task_rows SET task = {TASKS}, value = {TASKS**2} WHERE task = 0",
        f"INSERT INTO task_rows ({COLUMNS}) VALUES (1, {TASKS}, 'ok', {TASKS**2}, 1, 'w', 0.5)",
    ],
)
def test_a_wrong_ledger_ends_the_bench(farm: Farm, statement: str) -> None:
    spoil(farm, statement)
    with pytest.raises(SystemExit, match="wrong"):
        farm.check("squares", TASKS, SQUARED)
    if "SET task" not in statement:
        with pytest.raises(SystemExit, match="wrong"):
            farm.check_values("squares", [n * n for n in range(TASKS)])


def test_sqlite_alone_writes_the_rows_that_a_job_left(farm: Farm) -> None:
    assert sqlite_alone.rate(farm.ledger, "squares") > 0
    assert sorted(path.name for path in farm.ledger.parent.glob("sqlite-alone*")) == []


def test_rounds_are_interleaved_and_every_second_one_runs_backwards() -> None:
    order = []

    def contender(name: str):  # type: ignore[no-untyped-def]
        return lambda number: order.append((number, name)) or {MEDIAN: 1.0}

    interleave("test", 2, {OURS: contender("ours"), "peer": contender("peer")})
    assert order == [(0, "ours"), (0, "peer"), (1, "peer"), (1, "ours")]


def test_who_cannot_be_had_is_skipped_in_words_and_the_others_go_on() -> None:
    def nobody(_: int) -> dict[object, float]:
        raise Skipped("there is none")

    figures = interleave("test", 2, {"peer": nobody, OURS: lambda _: {MEDIAN: 1.0}})  # type: ignore[dict-item]
    assert [(each.who, each.skipped, each.values) for each in figures] == [
        (OURS, "", [1.0, 1.0]),
        ("peer", "there is none", []),
    ]


def test_a_ratio_is_taken_round_by_round_within_its_scenario_and_measure() -> None:
    assert ratios([2.0, 8.0], [1.0, 2.0]) == [2.0, 4.0]
    assert ratios([2.0], [1.0, 4.0, 4.0]) == [0.5]
    peer = Figure("a", MEDIAN, "peer", [1.0, 2.0, 4.0])
    mine, other = Figure("a", MEDIAN, OURS, [2.0, 8.0, 4.0]), Figure("b", MEDIAN, OURS, [9.0, 9.0, 9.0])
    assert ratio_of(peer, [other, mine, peer]) == 2.0
    assert ratio_of(mine, [other, mine, peer]) is None


def test_greedy_gives_each_task_to_who_is_free_first() -> None:
    assert greedy([3.0, 1.0, 1.0, 1.0], [1.0, 1.0]) == 3.0
    assert greedy([1.0, 1.0, 1.0], [10.0, 1.0]) == 10.0


def test_a_quick_run_does_a_twentieth() -> None:
    assert (Plan(quick=True).scaled(100), Plan().scaled(100)) == (5, 100)


def test_the_table_of_attacks_is_whole() -> None:
    """`python -m benchmarks.siege --write` wrote all of it."""
    found = siege.TABLE.search(siege.PAGE.read_text(encoding="utf-8"))
    assert found
    rows = [line.split(" | ")[0].removeprefix("| ") for line in found[0].splitlines() if line.startswith("| ")]
    assert rows[2:] == list(siege.titles().values())


def test_the_table_of_take_overs_is_whole_and_without_a_fault() -> None:
    """`python -m benchmarks.takeover --write` wrote all of it."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    from benchmarks import takeover

    found = takeover.TABLE.search(takeover.PAGE.read_text(encoding="utf-8"))
    assert found
    rows = [line.strip("|").split("|") for line in found[0].splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[2:]] == [loss.name for loss in takeover.losses()]
    for row in rows[2:]:
        assert (int(row[1]) >= 30, float(row[2].split()[0]) < 15, int(row[4])) == (True, True, 0)


def test_the_costs_of_a_crew_are_of_what_the_sink_really_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs.gc, "collect", lambda: 0)
    found = {cost.what: cost for cost in costs.measure(200, 2, 200, (0, 2))}
    assert found["beat, 2 batches of each job"].sent == {"Heard": 200, "Crew": 2 * 200 / costs.TOGETHER}
    assert found["results, 1 tasks, and their receipts"].sent["Recorded"] == 200
    assert found["ask, and its receipts"].sent == {"Receipts": 1}, "the results were recorded"
    assert found["scarce, told to the crew"].sent["Places"] == 200
    assert all(cost.seconds > 0 for cost in (*found.values(), *ventilator.measure(50, 2)))
