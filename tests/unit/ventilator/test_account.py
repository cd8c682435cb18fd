"""Where a task is at its ventilator."""

from msgspec import Raw

from common.protocol.explaining import TaskPlace
from common.ventilator.account import place_of
from common.ventilator.flights import Flight, Flights
from common.ventilator.retries import Retries, Retry
from common.ventilator.settings import DispatchSettings


def test_where_each_task_is() -> None:
    flights, retries = Flights(0.25), Retries(DispatchSettings())
    for first in (0, 2, 4):
        flights.add(Flight(first, 2, Raw()))
    flights.push(flights.at(0), 110.0)
    flights.push(flights.at(2), 110.0)
    flights.settle(1, 2)
    flights.at(2).returns = 3
    flights.take_back(flights.at(2), 100.0, 0.5)
    retries.put_off(108.0, Retry(9, 2, Raw()))
    found = [place_of(100.0, task, 10, flights, retries) for task in (0, 1, 2, 4, 6, 9, 10)]
    assert found == [
        TaskPlace("given", 1, 10.0),
        TaskPlace("settled"),
        TaskPlace("returned", 1, 0.5, 3),
        TaskPlace("ready"),
        TaskPlace("settled"),
        TaskPlace("retry", 2, 8.0),
        TaskPlace("unread"),
    ]


def test_a_retry_that_was_put_off_waits_for_the_later_instant() -> None:
    retries = Retries(DispatchSettings())
    retries.put_off(105.0, Retry(9, 2, Raw()))
    retries.put_off(108.0, Retry(9, 2, Raw()))
    assert retries.find(9) == (2, 108.0)
    assert retries.find(8) is None


def test_a_suspect() -> None:
    flights = Flights(0.25)
    flights.add(Flight(3, 1, Raw(), suspect=True, lost_count=2))
    assert place_of(0.0, 3, 4, flights, Retries(DispatchSettings())) == TaskPlace("ready", lost=2, is_suspect=True)
