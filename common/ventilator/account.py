"""What a ventilator tells whoever asks why its job or a task of it does not move. No socket, no clock."""

from typing import Literal

from ..protocol.explaining import TaskPlace
from .flights import Flight, Flights, State
from .retries import Retries


def place_of(now: float, task: int, next_task: int, flights: Flights, retries: Retries) -> TaskPlace:
    """Where this task is; `next_task` is the next one of the input."""
    retry = retries.find(task)
    if retry is not None:
        attempt, at = retry
        return TaskPlace("retry", attempt, max(0.0, at - now))
    flight = flights.holding(task)
    if flight is None or (flight.received is not None and task in flight.received):
        return TaskPlace("unread" if task >= next_task else "settled")
    if flight.state is State.READY:
        return _in("ready", flight, 0.0)
    return _in("given" if flight.state is State.PUSHED else "returned", flight, max(0.0, flight.due_at - now))


def _in(state: Literal["ready", "given", "returned"], flight: Flight, wait_s: float) -> TaskPlace:
    return TaskPlace(state, flight.attempt, wait_s, flight.returns, flight.lost_count, flight.suspect)
