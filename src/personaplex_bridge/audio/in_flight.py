"""What the model has been sent and has not answered: one frame comes out for each that goes in."""

from __future__ import annotations

from collections import deque

WINDOW_MS = 480
"""Most that is sent beyond what is answered: what has been sent to a stalled model can't be
shortened any more. Covers round trips of 400 ms.
"""
LOST_AFTER_S = 3.5
"""A model that has answered nothing for so long may have lost the difference for good: it is usual
from now on, so that a model that is only waiting for input goes on.
"""


MAX_UNANSWERED = 64
"""Frames whose time of sending is remembered: five seconds, more than the window lets out."""


class InFlight:
    """What is under way to the model and back.

    The *window* counts media: sent minus answered. The *lag* is a time: how much longer than the
    quickest ever the latest answer took. A longer way to the model looks like lag at first, but
    is none that leaving out pauses could cure; so what was left out for its sake counts no more
    (`forgive`).
    """

    def __init__(self) -> None:
        self._sent_ms = 0.0
        self._answered_ms = 0.0
        self._usual_ms: float | None = None
        self._moved_s: float | None = None
        self._sendings: deque[tuple[float, float]] = deque(maxlen=MAX_UNANSWERED)
        """For each frame under way: the media sent up to its end, and when."""
        self._quickest_s: float | None = None
        self._excess_ms = 0.0
        self._forgiven_ms = 0.0

    def is_open(self, now_s: float) -> bool:
        """Whether more may be sent."""
        usual_ms = self._usual_ms or 0.0
        if self._unanswered_ms > usual_ms and self._is_lost(now_s):
            self._usual_ms, self._moved_s = self._unanswered_ms, now_s
            return True
        return self._unanswered_ms - usual_ms < WINDOW_MS

    def sent(self, media_ms: float, now_s: float) -> None:
        """So much more was sent."""
        if self._moved_s is None or self._unanswered_ms <= (self._usual_ms or 0.0):
            self._moved_s = now_s  # until now there was nothing to answer
        self._sent_ms += media_ms
        self._sendings.append((self._sent_ms, now_s))

    def answered(self, total_ms: float, now_s: float) -> None:
        """So much has come back in all."""
        self._answered_ms, self._moved_s = total_ms, now_s
        if self._usual_ms is None or self._unanswered_ms < self._usual_ms:
            self._usual_ms = self._unanswered_ms
        took_s = None
        while self._sendings and self._sendings[0][0] <= total_ms:
            took_s = now_s - self._sendings.popleft()[1]
        if took_s is None:
            return
        if self._quickest_s is None or took_s < self._quickest_s:
            self._quickest_s = took_s
        self._excess_ms = (took_s - self._quickest_s) * 1000
        self._forgiven_ms = min(self._forgiven_ms, self._excess_ms)

    def forgive(self, media_ms: float) -> None:
        """So much was left out because of the lag."""
        self._forgiven_ms = min(self._forgiven_ms + media_ms, self._excess_ms)

    @property
    def is_awaited(self) -> bool:
        """Whether more than the usual is under way."""
        return self._unanswered_ms > (self._usual_ms or 0.0)

    @property
    def behind_ms(self) -> float:
        """The lag: 0 when nothing unusual is under way."""
        unusual_ms = self._unanswered_ms - (self._usual_ms or 0.0)
        return max(0.0, min(self._excess_ms - self._forgiven_ms, unusual_ms))

    def _is_lost(self, now_s: float) -> bool:
        return self._moved_s is not None and now_s - self._moved_s >= LOST_AFTER_S

    @property
    def _unanswered_ms(self) -> float:
        return self._sent_ms - self._answered_ms
