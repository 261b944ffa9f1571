"""What waits to be played at Twilio: media sent minus media played.

Twilio plays strictly in order and echoes a mark when everything before it has been played, so the
time at which a mark comes back tells how far playout is. Between marks time goes on as usual.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from personaplex_bridge.audio.lag import RecentLag

MARK_EVERY_MS = 400
"""Media between two marks: often enough to see a stall soon, seldom enough to cost nothing."""

TRAVEL_MARKS = 5
"""How long a mark takes to come back is the least of so many, sent when the phone was in time."""
IN_TIME_S = 0.02
"""One of the phone's frames: it is in time if it is no later than this."""
MAX_LATE_MS = 700
"""A phone later than this has stalled; up to it, the way there may have become longer."""

JITTER_S = 8.0
"""Jitter is remembered for so long: late messages are rare, and must be expected."""
CALM_MS = 30
"""Jitter below this needs no cushion: the phone's own 20 ms frames swallow it."""
MAX_JITTER_MS = 160
"""What is later than this tells of a stall, and a cushion is not for that."""

MAX_PENDING = 64
"""Marks not echoed: 25 s of media, more than may ever wait. Older ones are given up."""

SLOWEST_TRAVEL_S = 1.0
"""A mark that takes longer to come back is late, even if none has come back yet: otherwise a phone
that was stuck from the beginning would look as if it played.
"""

PROBE_AFTER_S = 1.0
"""While a mark is overdue, another is sent so often: Twilio echoes it at once if nothing waits. So
a mark that was lost doesn't stop the model's audio for good, and a phone that is stuck gets no
more of it.
"""


@dataclass(slots=True)
class _Pending:
    name: str
    played_s: float
    """When it will be reached, as far as is known."""


class PhoneBuffer:
    """Twilio's buffer for one call, as far as the bridge can know it. Times are seconds of a
    monotonic clock.
    """

    def __init__(self) -> None:
        self._end_s = float("-inf")
        self._travel_s = SLOWEST_TRAVEL_S
        """From a mark's being reached to our hearing of it."""
        self._travels: deque[float] = deque(maxlen=TRAVEL_MARKS)
        self._in_time: deque[_Pending] = deque(maxlen=TRAVEL_MARKS)
        """Marks that tell that time: sent while the phone was in time, as far as was known."""
        self._swings = RecentLag(JITTER_S)
        """How late the phone seemed by each mark."""
        self._late_s = 0.0
        """How much later than expected the phone is, by the marks: part of `_end_s`."""
        self._pending: deque[_Pending] = deque()
        self._unmarked_ms = 0.0
        self._marks = 0
        self._marked_s = float("-inf")

    @property
    def jitter_ms(self) -> float:
        """How much the way to the phone and back varies; 0 if that is hardly more than its frames
        of 20 ms.
        """
        swing_ms = self._swings.spread_ms
        return min(swing_ms, MAX_JITTER_MS) if swing_ms > CALM_MS else 0.0

    @property
    def late_ms(self) -> float:
        """How much later than expected the phone plays, by the marks, or how much longer the way
        to it has become, which can't be told apart at first; 0 if that is so much that it must
        have been a stall.
        """
        late_ms = self._late_s * 1000
        return late_ms if 0 < late_ms <= MAX_LATE_MS else 0.0

    def end_s(self, now_s: float) -> float:
        """When what was sent will have been played; in the past if the phone has run dry."""
        return self._end_s + self._overdue_s(now_s)

    def waiting_ms(self, now_s: float) -> float:
        """What waits; 0 if the phone has run dry."""
        return max(0.0, self.end_s(now_s) - now_s) * 1000

    def sent(self, media_ms: float, now_s: float) -> str | None:
        """Media was sent; returns the name of the mark to send after it, if one is due."""
        # A buffer that seems dry because a mark is overdue is no dry buffer but a stuck one.
        if self._end_s < now_s and not self._overdue_s(now_s):
            self._end_s, self._late_s = now_s, 0.0
            self._pending.clear()  # marks from before tell nothing of what is sent now
        self._end_s += media_ms / 1000
        self._unmarked_ms += media_ms
        if self._unmarked_ms < MARK_EVERY_MS:
            return None
        self._unmarked_ms = 0.0
        return self._mark(now_s)

    def probe(self, now_s: float) -> str | None:
        """The name of a mark to send now, without media, to see whether the phone is stuck."""
        if not self._overdue_s(now_s) or now_s - self._marked_s < PROBE_AFTER_S:
            return None
        return self._mark(now_s)

    def echoed(self, name: str, now_s: float) -> None:
        """Twilio has echoed a mark. Unknown ones, such as those a `clear` returned, are ignored."""
        self._learn_travel(name, now_s)
        if all(pending.name != name for pending in self._pending):
            return
        while (mark := self._pending.popleft()).name != name:
            pass  # marks come back in order: an earlier one was lost
        correction_s = now_s - mark.played_s - self._travel_s
        self._late_s += correction_s
        self._note_jitter(correction_s * 1000, now_s)
        self._end_s += correction_s
        for pending in self._pending:
            pending.played_s += correction_s

    def cleared(self, now_s: float) -> None:
        """A `clear` was sent: nothing waits, and marks that come back now prove nothing."""
        self._end_s, self._late_s = min(self.end_s(now_s), now_s), 0.0
        self._pending.clear()
        self._in_time.clear()
        self._unmarked_ms = 0.0

    def _learn_travel(self, name: str, now_s: float) -> None:
        """The least of the last few: a stall holds one or two of them up, a longer way them all."""
        for mark in self._in_time:
            if mark.name == name:
                self._travels.append(now_s - mark.played_s)
                least_s = min(self._travels)
                known = len(self._travels) == TRAVEL_MARKS
                self._travel_s = least_s if known else min(least_s, self._travel_s)

    def _note_jitter(self, correction_ms: float, now_s: float) -> None:
        if abs(correction_ms) > MAX_JITTER_MS:
            self._swings.reset()  # a stall, or the end of one
        else:
            self._swings.add(now_s, self._late_s * 1000)

    def _overdue_s(self, now_s: float) -> float:
        """How much longer the oldest mark has been on its way than it should."""
        if not self._pending:
            return 0.0
        return max(0.0, now_s - self._pending[0].played_s - self._travel_s)

    def _mark(self, now_s: float) -> str:
        self._marks += 1
        self._marked_s = now_s
        name = f"m{self._marks}"
        if len(self._pending) == MAX_PENDING:
            self._pending.popleft()
        self._pending.append(_Pending(name, self._end_s))
        if abs(self._late_s) <= IN_TIME_S and not self._overdue_s(now_s):
            self._in_time.append(_Pending(name, self._end_s))
        return name
