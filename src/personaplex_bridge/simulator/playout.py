"""Twilio's playout buffer: media strictly in order, marks at their place, `clear`."""

from __future__ import annotations

from collections import deque

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat

MAX_BUFFERED_S = 10 * 60
"""Twilio's own bound: ten minutes, error 31931 past it."""


class PlayoutOverflow(Exception):
    """More than ten minutes of media are waiting (error 31931)."""


class Playout:
    """What waits to be heard. `play_frame` is called every 20 ms of phone time."""

    def __init__(self, audio_format: AudioFormat = TELEPHONE) -> None:
        self._frame_bytes = audio_format.frame_bytes
        self._format = audio_format
        self.underruns = 0
        """Times the audio stopped for want of media after it had begun."""
        self._media = bytearray()
        self._taken = 0
        self._given = 0
        self._marks: deque[tuple[int, str]] = deque()
        self._playing = False

    @property
    def waiting_bytes(self) -> int:
        """Media not yet heard."""
        return len(self._media)

    def add(self, media: bytes) -> None:
        """Append media.

        Raises:
            PlayoutOverflow: the buffer is over ten minutes long.
        """
        self._media += media
        self._taken += len(media)
        if len(self._media) > MAX_BUFFERED_S * self._format.bytes_per_s:
            raise PlayoutOverflow("more than ten minutes of media are waiting (error 31931)")

    def mark(self, name: str) -> list[str]:
        """Set a mark at the end of what waits; returns it at once if nothing does."""
        self._marks.append((self._taken, name))
        return self._reached()

    def clear(self) -> list[str]:
        """Forget what waits. All marks are returned at once, in order, as Twilio does."""
        self._media.clear()
        self._playing = False
        self._given = self._taken
        return self._reached()

    def play_frame(self) -> tuple[bytes, list[str]]:
        """The next 20 ms that the caller hears, silence where media is missing, and the marks
        that this reaches.
        """
        frame = bytes(self._media[: self._frame_bytes])
        del self._media[: self._frame_bytes]
        self._given += len(frame)
        if len(frame) < self._frame_bytes:
            self.underruns += self._playing
            self._playing = False
            frame = frame.ljust(self._frame_bytes, self._format.silence)
        else:
            self._playing = True
        return frame, self._reached()

    def _reached(self) -> list[str]:
        names = []
        while self._marks and self._marks[0][0] <= self._given:
            names.append(self._marks.popleft()[1])
        return names
