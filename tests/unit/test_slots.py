"""What a slot's child is given."""

import socket

from common.slots import Limits, Slots


def test_the_link_of_a_child_holds_more_than_a_socket_pair_does_by_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        usual = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    slots = Slots(["json:dumps"], Limits())
    slots.start(range(1))
    try:
        wire = slots._children[0].wire
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > usual
    finally:
        slots.close()
