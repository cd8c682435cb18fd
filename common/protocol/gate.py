"""The messages about the keys that a ventilator lets in at its tasks link. They are of the control link."""

from .fields import Count, Message, Name, Z85Key


class Roster(Message, frozen=True):
    """To a ventilator: the public keys of all enrolled workers."""

    keys: list[Z85Key]


class Present(Message, frozen=True):
    """To a ventilator: the public keys of the workers that are here now, whatever they expose.

    A key whose workers get no tasks of its job at present is left out.
    """

    keys: list[Z85Key]


class Missing(Message, frozen=True):
    """A ventilator has pushed this many batches that no worker names although each has beaten since."""

    job: Name
    batches: Count
