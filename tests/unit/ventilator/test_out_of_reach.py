"""Workers that cannot connect are named to the ventilator's operator, together and not too often."""

from common.protocol.messages import Obstacle, Unreachable
from common.ventilator.out_of_reach import OutOfReach


def unreachable(worker: str, host: str = "192.0.2.7", obstacle: Obstacle = "silence") -> Unreachable:
    return Unreachable("j", worker, host, 5557, obstacle)


def lines(made: OutOfReach, now: float) -> list[str]:
    return [line.text for line in made.tick(now, relayed=False)]


def test_nothing_is_said_of_nobody() -> None:
    made = OutOfReach(5.0)
    assert made.due_at is None
    assert lines(made, 1e6) == []


def test_workers_that_say_it_together_are_one_line_for_each_address_and_reason() -> None:
    made = OutOfReach(5.0)
    for at, name in enumerate(["a", "b", "a", "c", "d", "e"]):
        made.take(at / 10, unreachable(name))
    made.take(0.6, unreachable("f", "fe80::7"))
    made.take(0.7, unreachable("g", "fe80::7", "handshake"))
    assert made.due_at == 1.0
    assert lines(made, 0.9) == []
    assert lines(made, 1.0) == [
        "workers a, b, c and 2 more cannot connect to this ventilator at 192.0.2.7:5557:"
        " let workers connect to that port (firewall, NAT), or run the ventilator where they can",
        "worker f cannot connect to this ventilator at [fe80::7]:5557:"
        " let workers connect to that port (firewall, NAT), or run the ventilator where they can",
        "worker g cannot connect to this ventilator at [fe80::7]:5557:"
        " something else answers there, or does not know their keys",
    ]
    assert made.due_at is None
    assert lines(made, 2.0) == []


def test_however_often_they_say_it_there_is_a_line_each_ten_seconds_at_most() -> None:
    made = OutOfReach(5.0)
    said = []
    for tenth in range(300):
        now = tenth / 10
        made.take(now, unreachable("a"))
        said += [now for _ in lines(made, now)]
    assert said == [1.0, 11.0, 21.0]
