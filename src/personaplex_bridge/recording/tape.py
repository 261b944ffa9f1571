"""One call's two tracks in the phone's time: the caller left, what the caller heard right.

Places are bytes of media, counted from the stream's beginning: whole samples always. What lies far
enough behind the phone's present can't change any more and is given away; so a tape holds a few
seconds, however long the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from personaplex_bridge.audio.caller_time import RESTART_MS
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.lag import RecentLag
from personaplex_bridge.audio.mulaw import FRAME_MS

SETTLED_AFTER_MS = 1500
"""Twilio's messages may come late by so much, and still get their place."""

PART_MS = 1000
"""So much is given away at a time."""

CONTIGUOUS_MS = 60
"""While the phone has something to play, media follows it without a gap, unless the phone turns out
to be later than by so much: it has stalled. Placing each message anew would tear words apart."""

TRAVEL_SPAN_S = 10.0
"""The quickest message of so long tells the phone's time. Clocks drift apart; jitter only adds."""

MAX_HELD_MS = 30_000
"""Nothing further ahead than this is kept: no phone plays so late what it was sent."""

Sink: TypeAlias = Callable[[bytes, bytes], None]
"""Takes the next part of both tracks, of the same length."""


class _Track:
    """One side, from where nothing is settled yet."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._silence = audio_format.silence
        self._most = audio_format.bytes_in(MAX_HELD_MS)
        self.begin = 0
        """Where `_bytes` begin, in the stream."""
        self._bytes = bytearray()

    @property
    def end(self) -> int:
        """Where the sound ends."""
        return self.begin + len(self._bytes)

    def put(self, at: int, media: bytes) -> None:
        """Sound at a place, over what may be there; what is settled stays."""
        if at < self.begin:
            media, at = media[self.begin - at :], self.begin
        room = self.begin + self._most - at
        media = media[: max(0, room)]
        offset = at - self.begin
        if media and offset > len(self._bytes):
            self._bytes += self._silence * (offset - len(self._bytes))
        self._bytes[offset : offset + len(media)] = media

    def cut(self, at: int) -> None:
        """Nothing is heard from there on."""
        del self._bytes[max(0, at - self.begin) :]

    def take(self, size: int) -> bytes:
        """The next so many, with silence where there is no sound."""
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        self.begin += size
        return taken + self._silence * (size - len(taken))


class Tape:
    """Records one call. Times `_s` are the session's monotonic clock."""

    def __init__(self, sink: Sink, audio_format: AudioFormat = TELEPHONE) -> None:
        self._sink = sink
        self._format = audio_format
        self._part = audio_format.bytes_in(PART_MS)
        self._contiguous = audio_format.bytes_in(CONTIGUOUS_MS)
        self._caller = _Track(audio_format)
        self._agent = _Track(audio_format)
        self._travel = RecentLag(TRAVEL_SPAN_S)
        self._latest_ms = 0.0
        """The phone's time of the latest message."""
        self._shift_ms = 0
        """What is added to timestamps that have begun anew."""

    def phone_ms(self, at_s: float) -> float:
        """The phone's time at a moment, by the quickest messages of late."""
        return at_s * 1000 - self._travel.lowest_ms

    def hear(self, timestamp_ms: int, media: bytes, now_s: float) -> None:
        """The caller's media has come."""
        length_ms = self._format.ms_of(len(media))
        at_ms = timestamp_ms + self._shift_ms
        if at_ms < self._latest_ms - RESTART_MS - length_ms:
            self._shift_ms += round(self._latest_ms - at_ms)
            at_ms = timestamp_ms + self._shift_ms
        # A message leaves the phone when its sound is complete.
        end_ms = at_ms + length_ms
        self._travel.add(now_s, now_s * 1000 - end_ms)
        self._latest_ms = max(self._latest_ms, end_ms)
        self._caller.put(self._format.bytes_in(at_ms), media)
        self._settle(self._latest_ms - SETTLED_AFTER_MS)

    def play(self, media: bytes, waiting_ms: float, now_s: float) -> None:
        """Media was sent that the phone plays after so much that it still has."""
        at = self._format.bytes_in(self.phone_ms(now_s) + waiting_ms)
        late = at - self._agent.end
        if late < 0 or (waiting_ms > 0 and late < self._contiguous):
            at = self._agent.end
        self._agent.put(at, media)

    def clear(self, now_s: float) -> None:
        """What the phone has not played by now it never will."""
        self._agent.cut(self._format.bytes_in(self.phone_ms(now_s)))

    def finish(self, now_s: float) -> None:
        """The call is over: give the rest away, up to now."""
        end_ms = max(self._latest_ms, min(self.phone_ms(now_s), self._latest_ms + FRAME_MS))
        self._give(max(0, self._format.bytes_in(int(end_ms)) - self._caller.begin))

    def _settle(self, until_ms: float) -> None:
        until = self._format.bytes_in(until_ms)
        while until - self._caller.begin >= self._part:
            self._give(self._part)

    def _give(self, size: int) -> None:
        if size:
            self._sink(self._caller.take(size), self._agent.take(size))
