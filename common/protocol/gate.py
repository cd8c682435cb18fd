"""The messages that say which keys a ventilator lets in at its tasks link. They are of the control link."""

from .fields import Message, Z85Key


class Roster(Message, frozen=True):
    """To a ventilator: the public keys of all enrolled workers."""

    keys: list[Z85Key]


class Present(Message, frozen=True):
    """To a ventilator: the public keys of the workers that are here now, whatever they expose."""

    keys: list[Z85Key]
