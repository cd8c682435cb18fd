"""When to say that something waits. No clock; `now` is monotonic seconds."""


class WaitVoice:
    """A wait that lasts is mentioned after `voice_s` seconds, and then every `2 * voice_s` seconds until it ends."""

    def __init__(self, voice_s: float) -> None:
        self.due_at: float | None = None
        """When to mention it next."""
        self.count = 0
        """How often this wait was mentioned."""
        self._voice_s = voice_s

    def is_due(self, now: float, waits: bool) -> bool:
        """True when the wait is to be mentioned now; `waits` says whether there is one."""
        if not waits:
            self.due_at, self.count = None, 0
        elif self.due_at is None:
            self.due_at = now + self._voice_s
        elif now >= self.due_at:
            self.due_at = now + 2 * self._voice_s
            self.count += 1
            return True
        return False
