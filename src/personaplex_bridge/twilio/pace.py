"""How fast a media stream may go: a phone speaks in real time, and so does Twilio.

A network that stalled and delivers everything at once is no faster than that over the whole call,
so what counts is all media against all time.
"""

from __future__ import annotations

from personaplex_bridge.errors import StreamError

BYTES_PER_S = 8000
"""Of Twilio's media: mu-law at 8 kHz."""
MAX_AHEAD_S = 5.0
"""Media may be so far ahead of the clock: for clocks that differ, and what Twilio had buffered."""
MESSAGES_PER_S = 200
"""50 of media, and some marks and keys; four times that, for the same reasons."""

POLICY_VIOLATION = 1008


class Pace:
    """Counts what one stream sends, whose media have so many bytes a second. Times are seconds of
    one monotonic clock.
    """

    def __init__(self, began_s: float, bytes_per_s: int = BYTES_PER_S) -> None:
        self._bytes_per_s = bytes_per_s
        self._began_s = began_s
        self._messages = 0
        self._media_bytes = 0

    def note(self, media_bytes: int, now_s: float) -> None:
        """A message came, with so much media in it.

        Raises:
            StreamError: that is more than a phone could have said by now (close code 1008).
        """
        self._messages += 1
        self._media_bytes += media_bytes
        allowed_s = now_s - self._began_s + MAX_AHEAD_S
        if self._media_bytes > allowed_s * self._bytes_per_s:
            raise StreamError("media comes faster than real time", POLICY_VIOLATION)
        if self._messages > allowed_s * MESSAGES_PER_S:
            raise StreamError("messages come too fast", POLICY_VIOLATION)
