"""The model's audio on its way to the phone: no gaps, no lasting delay, whole frames.

What has left for Twilio can't be taken back, except all of it. So no more leaves than the phone
needs to play on without a gap; the rest waits here, where pauses can be shortened.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.lag import LagMeter, RecentLag
from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.audio.phone_buffer import CALM_MS, JITTER_S, MAX_JITTER_MS, PhoneBuffer

LEAD_MS = 80
"""With more than this at Twilio nothing more leaves, unless the way there jitters: then as much
more. A model frame more may be there.
"""
CHUNK_FRAMES = 4
"""Frames in a media message at most: one model frame, 80 ms."""
KEPT_PAUSE_FRAMES = 3
"""So much of a pause (60 ms) stays when it is shortened."""
TAIL_FRAMES = 50
"""What the model says after an interruption until it pauses is the tail of what was cleared, and
is not heard either: up to 1 s of it.
"""


@dataclass(slots=True)
class PlayoutCounts:
    """Frames of 20 ms, and gaps."""

    shortened: int = 0
    """Pauses left out to catch up."""
    dropped: int = 0
    """The oldest, beyond the hard bound."""
    cleared: int = 0
    """Not sent any more because the caller interrupted, or the model failed."""
    tail: int = 0
    """Sent as silence: the rest of what was cleared, until the model paused."""
    cushion: int = 0
    """Silence put in ahead, against jitter."""
    gaps: int = 0
    """Times the phone ran dry in the middle of sound."""
    gap_ms: float = 0.0


class Playout:
    """One call's downlink from decoded frames to media messages. Synchronous; the caller of its
    methods brings the time (seconds, monotonic) and does the sending.

    The measure of everything is the *slack*: how much is still waiting to be played when the next
    model frame arrives. Its lowest value of late stands: it is delay for nothing, beyond a small
    margin, and pauses are shortened to remove it (never, if `target_ms` is None). If it comes
    near zero while the network jitters, silence is put in at a pause instead: the cushion. A calm
    network has none.
    """

    def __init__(
        self,
        limit_ms: int,
        target_ms: int | None,
        *,
        cushion: bool = True,
        audio_format: AudioFormat = TELEPHONE,
    ) -> None:
        self.counts = PlayoutCounts()
        self.lag = LagMeter()
        self.phone = PhoneBuffer()
        self.held = False
        """While True nothing leaves: the caller may be interrupting."""
        self._format = audio_format
        self._limit = limit_ms // FRAME_MS
        self._target_ms = target_ms
        self._has_cushion = cushion
        self._queue: deque[bytes] = deque()
        self._recent = RecentLag(JITTER_S)
        self._pause_frames = KEPT_PAUSE_FRAMES
        self._tail_frames = 0
        self._ends_loud = False

    @property
    def queued_ms(self) -> int:
        """What waits here."""
        return len(self._queue) * FRAME_MS

    def waiting_ms(self, now_s: float) -> float:
        """What waits here and at Twilio."""
        return self.queued_ms + self.phone.waiting_ms(now_s)

    def add(self, media: bytes, now_s: float) -> list[bool]:
        """Take what the model has said, whole frames; for each, whether there is sound in it."""
        loud, size = self._format.loudness(media), self._format.frame_bytes
        surplus = self._surplus_frames(self._measure(now_s))
        for number, is_loud in enumerate(loud):
            frame = media[number * size : (number + 1) * size]
            surplus -= self._add_frame(frame, is_loud, surplus)
        while len(self._queue) > self._limit:
            self._queue.popleft()
            self.counts.dropped += 1
        return loud

    def take(self, now_s: float) -> bytes:
        """What is to leave now, at most a model frame; empty if nothing is. Then tell `phone`."""
        if self.held or not self._queue or self.phone.waiting_ms(now_s) > self._lead_ms:
            return b""
        frames = min(len(self._queue), CHUNK_FRAMES)
        return b"".join([self._queue.popleft() for _ in range(frames)])

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until `take` gives something; None if only an event can change that."""
        if self.held or not self._queue:
            return None
        ahead_ms = self.phone.waiting_ms(now_s) - self._lead_ms
        # Not less than a frame: while the phone is stuck, time alone changes nothing.
        return max(ahead_ms, FRAME_MS) / 1000 if ahead_ms > 0 else 0.0

    def clear(self, now_s: float) -> bool:
        """Forget what waits; True if Twilio holds some of it and needs a `clear` too."""
        waiting_ms = self.phone.waiting_ms(now_s)
        self.counts.cleared += len(self._queue)
        self._recent.reset()
        self._queue.clear()
        self._tail_frames = TAIL_FRAMES if self._pause_frames < KEPT_PAUSE_FRAMES else 0
        self._ends_loud = self.held = False
        if waiting_ms > 0:
            self.phone.cleared(now_s)
        return waiting_ms > 0

    @property
    def is_loud(self) -> bool:
        """Whether there is sound in what waits here."""
        return any(self._format.loudness(b"".join(self._queue)))

    def abandon(self) -> None:
        """Forget what waits here, because its model has failed; what Twilio has is played."""
        self.counts.cleared += len(self._queue)
        self._recent.reset()
        self._queue.clear()
        self._tail_frames, self._pause_frames = 0, KEPT_PAUSE_FRAMES
        self._ends_loud = self.held = False

    @property
    def _lead_ms(self) -> float:
        jitter_ms = self.phone.jitter_ms if self._has_cushion else 0.0
        return LEAD_MS + jitter_ms + self.phone.late_ms

    def _measure(self, now_s: float) -> float:
        """The slack, now that a model frame has come."""
        slack_ms = self.queued_ms + (self.phone.end_s(now_s) - now_s) * 1000
        if slack_ms == float("-inf"):
            return 0.0  # the very first
        self.lag.add(slack_ms)
        if slack_ms < -MAX_JITTER_MS:
            self._recent.reset()  # a stall says nothing about jitter
        else:
            self._recent.add(now_s, slack_ms)
        if slack_ms < 0:
            # The phone ran dry, and goes on later by as much: a cushion by itself.
            self._recent.shift(-slack_ms)
            self._note_gap(-slack_ms)
        return max(0.0, slack_ms)

    def _note_gap(self, gap_ms: float) -> None:
        if self._ends_loud and gap_ms > 1:
            self.counts.gaps += 1
            self.counts.gap_ms += gap_ms

    def _surplus_frames(self, slack_ms: float) -> int:
        """How many frames of pauses to leave out: what makes the slack too large now, or stands.

        Below zero, how many of silence to put in at the next pause.
        """
        jitter_ms = min(self._recent.spread_ms, MAX_JITTER_MS)
        margin_ms = 0.0
        if self._has_cushion:
            margin_ms = self.phone.jitter_ms + (jitter_ms / 4 if jitter_ms > CALM_MS else 0.0)
        surplus = 0
        if self._target_ms is not None:
            if slack_ms > self._target_ms + jitter_ms:
                self._recent.reset()
                return int(slack_ms - margin_ms - jitter_ms) // FRAME_MS
            surplus = int(self._recent.lowest_ms - margin_ms) // FRAME_MS - 1
        if surplus > 1:
            return surplus
        return -1 if self._recent.lowest_ms < margin_ms - FRAME_MS else 0

    def _add_frame(self, frame: bytes, is_loud: bool, surplus: int) -> int:
        """Queue a frame; returns 1 if it was left out instead, -1 if silence came before it."""
        self._pause_frames = 0 if is_loud else self._pause_frames + 1
        if self._tail_frames:
            self._tail_frames = (
                0 if self._pause_frames >= KEPT_PAUSE_FRAMES else self._tail_frames - 1
            )
            if is_loud:
                self.counts.tail += 1
                frame, is_loud = self._format.silent_frame, False
        self._ends_loud = is_loud
        if not surplus or self._pause_frames <= KEPT_PAUSE_FRAMES:
            self._queue.append(frame)
            return 0
        change = 1 if surplus > 0 else -1
        self._recent.shift(-change * FRAME_MS)
        if change > 0:
            self.counts.shortened += 1
        else:
            self.counts.cushion += 1
            self._queue += (self._format.silent_frame, frame)
        return change
