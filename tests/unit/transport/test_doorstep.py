"""How many connections without a key may wait, how long, and which routing ids are given and which claimed."""

from common.transport.doorstep import GREETING_S, HANDSHAKE_S, WAITING_MAX, Doorstep, GivenIds


def filled(steps: Doorstep, now: float = 0.0) -> None:
    for descriptor in range(steps.waiting_max):
        assert steps.accepted(now, descriptor, f"10.0.0.{descriptor % 2}", greets=False) is None


def test_so_many_wait_and_no_more() -> None:
    steps = Doorstep(65_536)
    filled(steps)
    refused = steps.accepted(0.0, 1_000, "10.0.0.9", greets=False)
    assert refused == f"{WAITING_MAX} others have not shown a key yet"
    steps.gone(7)
    assert steps.accepted(0.0, 1_000, "10.0.0.9", greets=False) is None


def test_the_limit_is_named_where_it_is_the_reason() -> None:
    few, many = Doorstep(128), Doorstep(65_536)
    for steps in (few, many):
        filled(steps)
    limit = " (the limit is 128 descriptors)"
    assert few.accepted(0.0, 100, "10.0.0.9", greets=False) == f"32 others have not shown a key yet{limit}"
    assert many.accepted(0.0, 600, "10.0.0.9", greets=False) == "512 others have not shown a key yet"
    assert (few.accepted(0.0, 127, "10.0.0.9", greets=False) or "").endswith(limit)
    assert (many.accepted(0.0, 65_535, "10.0.0.9", greets=False) or "").endswith(" (the limit is 65536 descriptors)")
    few = Doorstep(128)
    verdicts = [few.accepted(0.0, descriptor, "10.0.0.1", greets=False) for descriptor in range(17)]
    assert verdicts[16] == f"16 others from there have not shown a key yet{limit}"


def test_one_address_takes_half_of_the_places() -> None:
    steps = Doorstep(65_536)
    verdicts = [steps.accepted(0.0, descriptor, "10.0.0.1", greets=False) for descriptor in range(WAITING_MAX)]
    assert verdicts.count(None) == WAITING_MAX // 2
    assert steps.accepted(0.0, 1_000, "10.0.0.2", greets=False) is None


def test_who_has_shown_a_key_or_is_too_slow_waits_no_longer() -> None:
    steps = Doorstep(65_536)
    filled(steps)
    steps.showed_key("10.0.0.1")
    assert steps.accepted(1.0, 1_000, "10.0.0.1", greets=False) is None
    assert steps.accepted(1.0, 1_001, "10.0.0.1", greets=False) is not None
    assert steps.accepted(HANDSHAKE_S, 1_001, "10.0.0.1", greets=False) is None, "libzmq has ended the others"


def test_a_descriptor_that_comes_again_counts_once() -> None:
    steps = Doorstep(65_536)
    for _ in range(10 * WAITING_MAX):
        assert steps.accepted(0.0, 5, "10.0.0.1", greets=True) is None
    assert steps.overdue(GREETING_S) == [5]


def test_some_descriptors_are_kept_free_however_few_there_are() -> None:
    for most in (64, 1_024, 65_536):
        steps = Doorstep(most)
        why = steps.accepted(0.0, most - 4, "10.0.0.1", greets=False)
        assert why is not None and "no file descriptor left" in why
        assert steps.accepted(0.0, most // 2, "10.0.0.1", greets=False) is None
        assert steps.waiting_max <= most // 4


def test_who_does_not_say_hello_is_named_once() -> None:
    steps = Doorstep(1_024)
    for descriptor, at in ((1, 0.0), (2, 0.0), (3, 1.0), (4, 0.0)):
        steps.accepted(at, descriptor, "10.0.0.1", greets=descriptor != 4)
    steps.greeted(2)
    assert steps.overdue(GREETING_S - 0.1) == []
    assert steps.overdue(GREETING_S) == [1]
    assert steps.overdue(GREETING_S) == []
    steps.gone(3)
    assert steps.overdue(GREETING_S + 1) == []


def test_ids_that_were_given_are_told_from_claimed_ones() -> None:
    given = GivenIds(b"\0\xff\xff\xff\xfe")
    for _ in range(3):
        given.one_more()
    right = [b"\0\xff\xff\xff\xff", b"\0\0\0\0\0", b"\0\0\0\0\1"]
    assert all(given.include(each) for each in right)
    claimed = [b"\0\0\0\0\2", b"\0\xff\xff\xff\xfd", b"\1\0\0\0\0", b"name", b"\0\0\0\0\0\0", b""]
    assert not any(given.include(each) for each in claimed)
    given.one_more()
    assert given.include(claimed[0])
