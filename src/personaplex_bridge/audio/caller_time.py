"""The phone's clock: where each of Twilio's media messages belongs.

Twilio numbers its media in milliseconds since the stream began (`timestamp`). What is missing is
filled with silence and what comes twice is dropped, so that media time follows phone time.
"""

from __future__ import annotations

from dataclasses import dataclass

from personaplex_bridge.audio.mulaw import FRAME_MS

MAX_FILL_MS = 1000
"""Longest hole that is filled at once; the model needn't hear all of a longer one."""

RESTART_MS = 1000
"""A message so much too early is not one that comes again: the timestamps have begun anew."""


@dataclass(slots=True)
class CallerTime:
    """Places media by their timestamps. All counts are frames of 20 ms.

    A timestamp may be off by less than a frame without consequence: gaps count by what has come
    since the first message, so that a small error doesn't add up.
    """

    filled: int = 0
    """Put in for what was missing."""
    doubled: int = 0
    """Messages dropped because their time had been heard already."""
    _next_ms: float | None = None
    _credit: int = 0

    def place(self, timestamp_ms: int, length_ms: float) -> int | None:
        """How many frames of silence belong before a message of so much sound; None if it is to be
        dropped.
        """
        if self._next_ms is None or timestamp_ms < self._next_ms - RESTART_MS:
            self._next_ms = timestamp_ms
        gap_ms = timestamp_ms - self._next_ms
        if gap_ms <= -FRAME_MS:
            self.doubled += 1
            return None
        missing = 0
        if gap_ms >= FRAME_MS:
            missing = int(gap_ms) // FRAME_MS
            self._next_ms += missing * FRAME_MS
            # What the wall clock put in meanwhile needn't be put in again.
            missing = min(max(0, missing - self._credit), MAX_FILL_MS // FRAME_MS)
            self.filled += missing
        self._credit = 0
        self._next_ms += length_ms
        return missing

    def fill(self, frames: int) -> None:
        """The wall clock put in so many frames, because nothing came."""
        self.filled += frames
        self._credit += frames
