"""What can be done to libzmq's connections by their descriptors. They may have ended by then: that is no error."""

import socket
import struct


def hang_up(descriptor: int) -> None:
    """End a connection of libzmq's. The peer sees a reset, which no client takes for a wrong key."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # libzmq reads the end and closes it, and that is the reset. Ending both directions would send a FIN first.
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    finally:
        connection.detach()


def address_of(descriptor: int) -> str:
    """The host at the other end; empty when it is gone."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return ""
    try:
        return str(connection.getpeername()[0]).removeprefix("::ffff:")
    except OSError:
        return ""
    finally:
        connection.detach()
