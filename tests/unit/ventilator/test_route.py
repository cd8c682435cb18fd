"""Tasks go straight to workers until one cannot connect, or through the relay from the start; and what is said."""

import pytest

from common.protocol.messages import Unreachable
from common.ventilator.route import Route
from common.ventilator.settings import RelayUse

PORT, RELAY_PORT = 5557, 5556


def route(use: RelayUse) -> Route:
    made = Route(use, 5.0)
    made.welcome(0 if use is RelayUse.always else PORT, RELAY_PORT)
    return made


def unreachable(worker: str = "a", port: int = PORT) -> Unreachable:
    return Unreachable("j", worker, "192.0.2.7", port, "silence")


def told(made: Route, now: float, pushes: bool = True) -> list[str]:
    return [line.text for line in (*made.changed(now), *made.tick(now, pushes))]


def test_it_goes_over_to_the_relay_with_one_line_when_workers_cannot_connect() -> None:
    made = route(RelayUse.auto)
    assert (made.relayed, made.port, made.due_at) == (False, PORT, None)
    for at, name in enumerate(["a", "b", "c", "d"]):
        made.unreachable(at / 10, unreachable(name))
    assert told(made, 0.9) == []
    assert made.due_at == 1.0
    assert told(made, 1.0) == [
        "workers a, b, c and 1 more cannot connect to this ventilator at 192.0.2.7:5557:"
        " tasks go through the sink's relay from now on"
    ]
    assert (made.relayed, made.port) == (True, RELAY_PORT)


def test_what_comes_late_about_the_first_way_is_not_said_of_the_second() -> None:
    made = route(RelayUse.auto)
    made.unreachable(0.0, unreachable())
    told(made, 1.0)
    made.relay_is_up = True
    made.unreachable(1.5, unreachable("b"))
    assert told(made, 100.0) == []
    made.unreachable(100.0, unreachable("b", RELAY_PORT))
    assert told(made, 101.0) == [
        "worker b cannot connect to the sink's relay at 192.0.2.7:5556:"
        " let workers connect to that port of the sink's machine (firewall)"
    ]


def test_where_it_may_not_use_the_relay_it_only_says_so() -> None:
    made = route(RelayUse.never)
    made.unreachable(0.0, unreachable())
    assert told(made, 1.0) == [
        "worker a cannot connect to this ventilator at 192.0.2.7:5557:"
        " let workers connect to that port (firewall, NAT), or run the ventilator where they can"
    ]
    assert not made.relayed


@pytest.mark.parametrize(("up", "pushes", "lines"), [(False, True, 1), (True, True, 0), (False, False, 0)])
def test_a_relay_that_does_not_answer_is_said_while_there_is_something_to_push(
    up: bool, pushes: bool, lines: int
) -> None:
    made = route(RelayUse.always)
    assert made.relayed
    made.relay_is_up = up
    assert told(made, 0.0, pushes) == []
    assert made.due_at == (5.0 if lines else None)
    said = told(made, 5.0, pushes)
    assert len(said) == lines
    assert all("cannot push tasks to the sink's relay at its port 5556: nothing answers there" in line for line in said)
