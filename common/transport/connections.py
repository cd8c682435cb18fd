"""What can be done to libzmq's connections by their descriptors. They may have ended by then: that is no error.

A flood of strangers makes some thousands of them a second. So the type of a socket is not looked up, but given.
"""

import socket
import struct

_RESETS = struct.pack("ii", 1, 0)


def hang_up(descriptor: int) -> None:
    """End a connection of libzmq's. The peer sees a reset, which no client takes for a wrong key."""
    try:
        connection = _connection(descriptor)
    except OSError:
        return
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
        # libzmq reads the end and closes it, and that is the reset. Ending both directions would send a FIN first.
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    finally:
        connection.detach()


def address_of(descriptor: int) -> str:
    """The host at the other end; empty when it is gone."""
    try:
        connection = _connection(descriptor)
    except OSError:
        return ""
    try:
        return str(connection.getpeername()[0]).removeprefix("::ffff:")
    except OSError:
        return ""
    finally:
        connection.detach()


def _connection(descriptor: int) -> socket.SocketType:
    # Its addresses are read as what they are, also where they are IPv4.
    return socket.SocketType(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
