"""Reading the ledger through the sink: who may, when it is answered, and in what pieces."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from common.protocol.codec import decode_from_sink, encode
from common.protocol.messages import Ask, Cancel, Close, Forget, Goodbye, Refused
from common.protocol.reading import Cursor, List, Listing, Read, Rows, Values
from common.protocol.row_reading import RowReading
from common.protocol.settings import MESSAGE_BYTES_MAX
from common.protocol.users import User
from common.protocol.value_array import packed, unpacked
from common.sink.collector import Collector
from tests.unit.builders import record
from tests.unit.sink.scene import ADA, CUBE, OLGA, ROSTER, SETTINGS, TIMING, VERA, VITO, Scene, of, said, to
from tests.unit.writing import commit


def read(after: Cursor = (0, 0), order: Any = "commit", job: str = "job", failed: bool = False) -> Read:
    return Read(job, order, after, failed)


def rows(scene: Scene) -> list[Rows]:
    """What a turn of the sink answers."""
    return [message for _, message in of(Rows, scene.sink.tick(scene.now))]  # type: ignore[misc]


def tasks(answer: Rows) -> list[int]:
    return [row.task for row in answer.rows]


@pytest.fixture
def filled(scene: Scene) -> Scene:
    """A job with five rows, and an observer who is connected."""
    scene.ventilator()
    scene.worker()
    scene.hello(OLGA)
    scene.deliver(scene.batch([1, "two", 3.5], 4), scene.batch([b"x", [7]], 0))
    scene.sink.flush(scene.now)
    return scene


@pytest.mark.parametrize("user", [VERA, VITO, OLGA], ids=lambda user: user.name)
def test_ventilators_and_observers_may_read_any_job(filled: Scene, user: User) -> None:
    filled.hello(user)
    assert filled.send(user, read()) == []
    [answer] = rows(filled)
    assert sorted(tasks(answer)) == [0, 1, 4, 5, 6]
    assert (answer.after, answer.more, answer.state) == ((0, 0), False, "open")
    assert decode_from_sink(encode(answer)) == answer


@pytest.mark.parametrize("values", [False, True])
def test_the_number_of_a_request_comes_back(filled: Scene, values: bool) -> None:
    filled.send(OLGA, replaced(read(), values=values, request=7))
    [(_, answer)] = of(Values if values else Rows, filled.sink.tick(filled.now))
    assert isinstance(answer, Values | Rows)
    assert answer.request == 7


def test_whoever_waits_for_rows_of_a_forgotten_job_is_told(filled: Scene) -> None:
    filled.send(OLGA, read())
    [answer] = rows(filled)
    filled.send(OLGA, read(after=answer.position))
    assert rows(filled) == []
    filled.send(VERA, Goodbye())
    filled.hello(VITO)
    [refused] = [message for message in to(OLGA, filled.send(VITO, Forget("job"))) if isinstance(message, Refused)]
    assert "there is no job job" in refused.reason
    assert rows(filled) == []


@pytest.mark.parametrize("values", [False, True])
def test_answers_tell_a_job_from_a_later_one_of_its_name(filled: Scene, values: bool) -> None:
    numbers = []
    for _ in range(2):
        filled.send(OLGA, replaced(read(), values=values))
        [answer] = [each for each in to(OLGA, filled.sink.tick(filled.now)) if isinstance(each, Rows | Values)]
        numbers.append(answer.number)
        filled.send(VERA, Goodbye())
        filled.hello(VITO)
        filled.send(VITO, Forget("job"))
        filled.ventilator(VERA)
        filled.deliver(filled.batch([1]))
        filled.sink.flush(filled.now)
    assert numbers == [1, 2]


@pytest.mark.parametrize("message", [read(), List(0)])
def test_workers_may_read_nothing(filled: Scene, message: Any) -> None:
    outputs = filled.send(ADA, message)
    assert to(ADA, outputs) == []
    assert "workers may not send" in said(outputs)[0]
    assert rows(filled) == []


def test_a_row_has_what_the_ledger_has(filled: Scene) -> None:
    filled.send(VERA, Cancel("job"))
    filled.send(OLGA, read(order="task"))
    [answer] = rows(filled)
    assert [(row.value, row.json, row.error) for row in answer.rows] == [
        (b"x", False, None), ("[7]", True, None), (1, False, None), ("two", False, None), (3.5, False, None)
    ]  # fmt: skip
    assert {(row.attempt, row.worker, row.is_cut) for row in answer.rows} == {(1, "ada", False)}
    assert answer.state == "cancelled"


def test_a_read_waits_for_the_next_commit_of_its_job(filled: Scene) -> None:
    filled.ventilator(VITO, "other", CUBE)
    filled.send(OLGA, read())
    [first] = rows(filled)
    filled.send(OLGA, read(first.position))
    assert rows(filled) == []
    assert filled.sink.deadline() is not None
    filled.deliver(filled.batch([1], job="other"))
    assert rows(filled) == []
    filled.deliver(filled.batch([2], 9))
    [answer] = rows(filled)
    assert (tasks(answer), answer.after) == ([9], first.position)
    assert rows(filled) == [], "it is answered once"


def test_a_read_is_answered_after_ask_s_though_there_is_nothing(filled: Scene) -> None:
    filled.send(OLGA, read((99, 0)))
    assert rows(filled) == []
    asked_at = filled.now
    filled.now = asked_at + TIMING.ask_s * 0.99
    assert rows(filled) == []
    filled.now = asked_at + TIMING.ask_s
    assert rows(filled) == [Rows("job", (99, 0), (99, 0), [], False, "open", 1)]


def test_whoever_follows_a_job_learns_at_once_that_it_has_ended(filled: Scene) -> None:
    filled.send(OLGA, read((99, 0)))
    assert rows(filled) == []
    filled.send(VERA, Close("job", 5, False))
    assert rows(filled) == [Rows("job", (99, 0), (99, 0), [], False, "done", 1)]


def test_rows_that_are_not_wanted_wake_nobody_and_are_not_looked_at_again(filled: Scene) -> None:
    filled.send(OLGA, read(failed=True))
    assert rows(filled) == []
    filled.now += TIMING.ask_s
    [answer] = rows(filled)
    assert (answer.rows, answer.after) == ([], (0, 0))
    assert answer.position > (0, 0)


def test_a_peer_has_one_read_and_the_last_one_counts(filled: Scene) -> None:
    filled.send(OLGA, read())
    filled.send(OLGA, read(order="task"))
    [answer] = rows(filled)
    assert tasks(answer) == [0, 1, 4, 5, 6]
    assert rows(filled) == []


def test_one_page_is_read_in_a_turn_and_everybody_has_one_in_turn(filled: Scene) -> None:
    filled.hello(VITO)
    for user in (OLGA, VITO, VERA):
        filled.send(user, read())
    assert filled.sink.deadline() == float("-inf")
    served = [[peer for peer, _ in of(Rows, filled.sink.tick(filled.now))] for _ in range(4)]
    assert served == [[b"olga"], [b"vito"], [b"vera"], []]


def test_pages_are_bounded_in_rows_and_join(filled: Scene) -> None:
    filled.sink = Collector(0.0, replace(SETTINGS, rows_page=2), filled.ledger, "run", ROSTER)
    filled.hello(OLGA)
    for order in ("task", "commit"):
        found, after, more = [], (0, 0), True
        while more:
            filled.send(OLGA, read(after, order))
            [answer] = rows(filled) or [None]
            if answer is None:
                filled.now += TIMING.ask_s
                [answer] = rows(filled)
            assert len(answer.rows) <= 2
            found += tasks(answer)
            after, more = answer.position, answer.more
        assert sorted(found) == [0, 1, 4, 5, 6]


def test_a_row_that_does_not_fit_into_a_message_is_cut_and_says_so(filled: Scene) -> None:
    """JSON may be larger than what a worker has sent."""
    nested = [b"x" * (13 * 1024 * 1024)]
    filled.deliver(filled.batch([nested], 20))
    filled.sink.flush(filled.now)
    filled.send(OLGA, read((20, 0), "task"))
    [answer] = rows(filled)
    assert [(row.task, row.is_cut, row.json) for row in answer.rows] == [(20, True, False)]
    assert len(encode(answer)) < MESSAGE_BYTES_MAX


def test_an_exact_value_travels_beside_the_readable_one(filled: Scene) -> None:
    commit(filled.ledger, [record(["text"], 30, exact={0: b"exact"})])
    filled.send(OLGA, read((30, 0), "task"))
    [answer] = rows(filled)
    assert [(row.value, row.exact) for row in answer.rows] == [("text", b"exact")]


def test_values_come_without_what_is_about_them(filled: Scene) -> None:
    filled.deliver(filled.batch([None, 8], 20, errors={0: "no"}))
    filled.sink.flush(filled.now)
    filled.send(OLGA, replaced(read(order="task"), values=True))
    [(peer, answer)] = of(Values, filled.sink.tick(filled.now))
    assert peer == b"olga"
    assert isinstance(answer, Values)
    assert answer.runs == [(0, 2), (4, 3), (20, 2)]
    assert unpacked(answer.values) == [b"x", [7], 1, "two", 3.5, None, 8]
    assert [(row.task, row.error) for row in answer.others] == [(20, "no")]
    assert (answer.after, answer.more, answer.state) == ((0, 0), True, "open")
    assert decode_from_sink(encode(answer)) == answer


def test_who_wants_values_waits_for_them_too(filled: Scene) -> None:
    filled.send(OLGA, replaced(read((99, 0)), values=True))
    assert of(Values, filled.sink.tick(filled.now)) == []
    filled.now += TIMING.ask_s
    [(_, answer)] = of(Values, filled.sink.tick(filled.now))
    assert answer == Values("job", (99, 0), (99, 0), [], packed([]), [], False, "open", 1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 30), st.integers(1, 4)),
        st.tuples(st.sampled_from(["lose", "repeat", "take", "take", "wait", "join"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_a_reader_gets_each_row_once_whatever_is_lost_or_said_twice(
    steps: list[tuple[str, int, int]], page: int
) -> None:
    """Answers that are lost, requests that are repeated, connections that are made anew, commits at any moment."""
    scene = Scene(":memory:")
    scene.sink = Collector(0.0, replace(SETTINGS, rows_page=page), scene.ledger, "run", ROSTER)
    scene.ventilator()
    scene.hello(OLGA)
    reading, found, answers = RowReading("job", "commit", failed=False, follow=True), [], []
    scene.send(OLGA, reading.request())

    def turn() -> None:
        answers.extend(rows(scene))

    def take() -> None:
        while answers:
            answer = answers.pop(0)
            if not reading.over and reading.is_answer(answer):
                found.extend(row.task for row in reading.take(answer))
                if not reading.over:
                    scene.send(OLGA, reading.request())
                    turn()

    for step, first, count in steps:
        if step == "commit":
            commit(scene.ledger, [record([0] * count, first)])
        elif step == "lose":
            answers.clear()
            scene.send(OLGA, reading.request())
        elif step == "repeat":
            scene.send(OLGA, reading.request())
        elif step == "join":
            scene.hello(OLGA)
            scene.send(OLGA, reading.request())
        elif step == "wait":
            scene.now += TIMING.ask_s
            scene.send(VERA, Ask("job", 0, False))
        turn()
        if step == "take":
            take()
    scene.send(VERA, Close("job", 40, False))
    for _ in range(200):
        scene.send(OLGA, reading.request())
        turn()
        take()
        if reading.over:
            break
    assert reading.over
    recorded = [task for (task,) in scene.ledger.inspect("SELECT task FROM results ORDER BY task")]
    assert sorted(found) == recorded
    scene.ledger.close()


def test_a_job_that_is_not_there_is_refused_in_words(filled: Scene) -> None:
    [refused] = to(OLGA, filled.send(OLGA, read(job="nosuch")))
    assert isinstance(refused, Refused)
    assert refused.reason == "there is no job nosuch: `python sink.py jobs --key FILE` lists them"


def test_jobs_are_listed_in_pages(filled: Scene) -> None:
    filled.ventilator(VITO, "other", CUBE)
    filled.sink = Collector(0.0, replace(SETTINGS, jobs_page=1), filled.ledger, "run", ROSTER)
    filled.hello(OLGA)
    found, after, more = [], 0, True
    while more:
        [answer] = to(OLGA, filled.send(OLGA, List(after)))
        assert isinstance(answer, Listing)
        assert answer.after == after
        found += [(job.job, job.function, job.done) for job in answer.jobs]
        after, more = (answer.jobs[-1].number, answer.more) if answer.jobs else (after, answer.more)
    assert found == [("job", "tasks:square", 5), ("other", CUBE, 0)]
