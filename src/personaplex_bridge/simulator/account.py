"""What calls of one Twilio account share: its queues, and the sounds it has fetched."""

from __future__ import annotations

import secrets
from statistics import mean

MAX_QUEUE_SIZE = 1000
"""Twilio's own default, one queue."""

MAX_SOUNDS = 1000


class CallQueue:
    """One queue: who is in it, in order, and since when."""

    def __init__(self) -> None:
        self.sid = "QU" + secrets.token_hex(16)
        self._since_s: dict[str, float] = {}

    @property
    def is_full(self) -> bool:
        """Whether nobody can join."""
        return len(self._since_s) >= MAX_QUEUE_SIZE

    def join(self, call_sid: str, now_s: float) -> None:
        """To the end of it."""
        self._since_s[call_sid] = now_s

    def leave(self, call_sid: str) -> None:
        """Out of it; nothing, if the call isn't in it."""
        self._since_s.pop(call_sid, None)

    def told(self, call_sid: str, now_s: float) -> dict[str, str]:
        """What Twilio tells the waitUrl of a call."""
        times_s = [now_s - since_s for since_s in self._since_s.values()]
        return {
            "QueueSid": self.sid,
            "QueuePosition": str([*self._since_s].index(call_sid) + 1),
            "QueueTime": str(int(now_s - self._since_s[call_sid])),
            "AvgQueueTime": str(int(mean(times_s))),
            "CurrentQueueSize": str(len(self._since_s)),
            "MaxQueueSize": str(MAX_QUEUE_SIZE),
        }


class TwilioAccount:
    """The queues by name, and fetched sounds by URL: mu-law."""

    def __init__(self) -> None:
        self._queues: dict[str, CallQueue] = {}
        self._sounds: dict[str, bytes] = {}

    def queue(self, name: str) -> CallQueue:
        """The queue of that name; Twilio makes it for the first caller."""
        return self._queues.setdefault(name, CallQueue())

    def sound(self, url: str) -> bytes | None:
        """A sound that was fetched and may be kept."""
        return self._sounds.get(url)

    def keep(self, url: str, mulaw: bytes) -> None:
        """Remember a sound."""
        if len(self._sounds) < MAX_SOUNDS:
            self._sounds[url] = mulaw
