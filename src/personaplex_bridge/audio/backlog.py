"""What the caller said and the model has not been sent yet, bounded by media time."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from personaplex_bridge.audio.mulaw import FRAME_MS

KEPT_PAUSE_FRAMES = 5
"""So much of a pause (100 ms) stays when it is shortened: words don't run together."""


Frame: TypeAlias = tuple[bytes, bool]
"""20 ms of the caller: a frame of media, and whether there is voice in it. A tuple, because
fifty of them a second are made for each call.
"""


class CallerBacklog:
    """A first-in, first-out store of frames that forgets what is beyond `limit_ms`: pauses first,
    then the oldest.
    """

    def __init__(self, limit_ms: int) -> None:
        self.shortened = 0
        """Frames of pauses that were left out."""
        self.dropped = 0
        """Other frames that were forgotten: the oldest."""
        self._limit = limit_ms // FRAME_MS
        self._frames: deque[Frame] = deque()
        self._pause_before = KEPT_PAUSE_FRAMES
        """Frames without voice that left last: the beginning of a pause may be gone."""

    def __len__(self) -> int:
        """Frames waiting."""
        return len(self._frames)

    def append(self, frame: Frame) -> None:
        """Add to the end; forget and count what no longer fits."""
        self._frames.append(frame)
        if len(self._frames) > self._limit and not self.shorten(1):
            self._leave(self._frames.popleft())
            self.dropped += 1

    def take(self, frames: int) -> list[Frame]:
        """Remove and return the oldest so many frames; none if there are fewer."""
        if len(self._frames) < frames:
            return []
        taken = [self._frames.popleft() for _ in range(frames)]
        for frame in taken:
            self._leave(frame)
        return taken

    def shorten(self, frames: int) -> int:
        """Leave out up to so many frames of pauses, the oldest first; returns how many."""
        kept: deque[Frame] = deque()
        pause, left = self._pause_before, frames
        for frame in self._frames:
            pause = 0 if frame[1] else pause + 1
            if left and pause > KEPT_PAUSE_FRAMES:
                left -= 1
            else:
                kept.append(frame)
        if left < frames:
            self._frames = kept
            self.shortened += frames - left
        return frames - left

    def _leave(self, frame: Frame) -> None:
        self._pause_before = 0 if frame[1] else self._pause_before + 1
