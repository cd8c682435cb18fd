"""What ventilators are told of their crews, in as few messages as may be."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..protocol.messages import Crew, Member
from .outputs import Output, Send
from .registry import PAGE_NAMES, names_in


@dataclass(slots=True)
class _News:
    """What one ventilator gets as one message."""

    place: int
    """Where the first of it stands among the outputs."""
    names: int = 0
    others: int = 0
    members: list[Member] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, crew: Crew) -> bool:
        """Add this, if it then means the same as if it followed: members count first, and the lost last."""
        names = sum(map(names_in, crew.members))
        if crew.members and (self.left or self.lost or (self.members and self.names + names > PAGE_NAMES)):
            return False
        if crew.left and self.lost:
            return False
        self.names += names
        self.others = crew.others
        self.members += crew.members
        self.left += crew.left
        self.lost += crew.lost
        return True

    def message(self) -> Crew:
        """All of it."""
        return Crew(self.members, self.left, self.lost, self.others)


def joined(outputs: Iterable[Output]) -> list[Output]:
    """The same with fewer messages: what a ventilator is told of its crew in one turn is one message.

    Crews of thousands beat thousands of times a second, and each beat concerns each ventilator. Every peer still gets
    its messages in order, and none later than before.
    """
    made: list[Output] = []
    last: dict[bytes, _News] = {}
    """By peer: news that may grow, because nothing else was said to it since."""
    begun: list[_News] = []
    for output in outputs:
        if isinstance(output, Send):
            known = last.pop(output.peer, None)
            if isinstance(output.message, Crew):
                if known is not None and known.add(output.message):
                    last[output.peer] = known
                    continue
                last[output.peer] = begins = _News(len(made))
                begins.add(output.message)
                begun.append(begins)
        made.append(output)
    for each in begun:
        first = made[each.place]
        assert isinstance(first, Send)
        made[each.place] = Send(first.peer, each.message())
    return made
