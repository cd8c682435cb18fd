"""How fast jobs are begun."""

from common.farm.start_pace import StartPace


def test_a_minute_has_room_for_so_many_and_the_next_ones_wait() -> None:
    pace = StartPace(3)
    assert [pace.delay_s(now) for now in (0.0, 1.0, 2.0)] == [0, 0, 0]
    assert pace.delay_s(10.0) == 50
    assert pace.delay_s(10.0) == 51
    assert pace.delay_s(70.0) == 0
