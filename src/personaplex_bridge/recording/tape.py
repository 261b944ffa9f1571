"""One call's two tracks in the phone's time: the caller left, what the caller heard right.

Bytes are mu-law at 8 kHz, one a sample, counted from the stream's beginning. What lies far enough
behind the phone's present can't change any more and is given away; so a tape holds a few seconds,
however long the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from personaplex_bridge.audio.caller_time import BYTES_PER_MS, RESTART_MS
from personaplex_bridge.audio.lag import RecentLag
from personaplex_bridge.audio.mulaw import FRAME_MS, SILENCE

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

    def __init__(self) -> None:
        self.begin = 0
        """Where `_bytes` begin, in the stream."""
        self._bytes = bytearray()

    @property
    def end(self) -> int:
        """Where the sound ends."""
        return self.begin + len(self._bytes)

    def put(self, at: int, mulaw: bytes) -> None:
        """Sound at a place, over what may be there; what is settled stays."""
        if at < self.begin:
            mulaw, at = mulaw[self.begin - at :], self.begin
        room = self.begin + MAX_HELD_MS * BYTES_PER_MS - at
        mulaw = mulaw[: max(0, room)]
        offset = at - self.begin
        if mulaw and offset > len(self._bytes):
            self._bytes += SILENCE * (offset - len(self._bytes))
        self._bytes[offset : offset + len(mulaw)] = mulaw

    def cut(self, at: int) -> None:
        """Nothing is heard from there on."""
        del self._bytes[max(0, at - self.begin) :]

    def take(self, size: int) -> bytes:
        """The next so many, with silence where there is no sound."""
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        self.begin += size
        return taken + SILENCE * (size - len(taken))


class Tape:
    """Records one call. Times `_s` are the session's monotonic clock."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._caller = _Track()
        self._agent = _Track()
        self._travel = RecentLag(TRAVEL_SPAN_S)
        self._latest_ms = 0.0
        """The phone's time of the latest message."""
        self._shift_ms = 0
        """What is added to timestamps that have begun anew."""

    def phone_ms(self, at_s: float) -> float:
        """The phone's time at a moment, by the quickest messages of late."""
        return at_s * 1000 - self._travel.lowest_ms

    def hear(self, timestamp_ms: int, mulaw: bytes, now_s: float) -> None:
        """The caller's media has come."""
        at_ms = timestamp_ms + self._shift_ms
        if at_ms < self._latest_ms - RESTART_MS - len(mulaw) / BYTES_PER_MS:
            self._shift_ms += round(self._latest_ms - at_ms)
            at_ms = timestamp_ms + self._shift_ms
        # A message leaves the phone when its sound is complete.
        end_ms = at_ms + len(mulaw) / BYTES_PER_MS
        self._travel.add(now_s, now_s * 1000 - end_ms)
        self._latest_ms = max(self._latest_ms, end_ms)
        self._caller.put(at_ms * BYTES_PER_MS, mulaw)
        self._settle(self._latest_ms - SETTLED_AFTER_MS)

    def play(self, mulaw: bytes, waiting_ms: float, now_s: float) -> None:
        """Media was sent that the phone plays after so much that it still has."""
        at = round((self.phone_ms(now_s) + waiting_ms) * BYTES_PER_MS)
        late = at - self._agent.end
        if late < 0 or (waiting_ms > 0 and late < CONTIGUOUS_MS * BYTES_PER_MS):
            at = self._agent.end
        self._agent.put(at, mulaw)

    def clear(self, now_s: float) -> None:
        """What the phone has not played by now it never will."""
        self._agent.cut(round(self.phone_ms(now_s) * BYTES_PER_MS))

    def finish(self, now_s: float) -> None:
        """The call is over: give the rest away, up to now."""
        end_ms = max(self._latest_ms, min(self.phone_ms(now_s), self._latest_ms + FRAME_MS))
        self._give(max(0, int(end_ms) * BYTES_PER_MS - self._caller.begin))

    def _settle(self, until_ms: float) -> None:
        part = PART_MS * BYTES_PER_MS
        while until_ms * BYTES_PER_MS - self._caller.begin >= part:
            self._give(part)

    def _give(self, size: int) -> None:
        if size:
            self._sink(self._caller.take(size), self._agent.take(size))
