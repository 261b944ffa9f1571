"""The caller's audio between Twilio and the model: in time, in order, and without the noise.

The model's clock is this audio: it steps once for each 80 ms that it is sent. So what is missing
is filled, what is noise becomes silence in its place, and frames are left out only on purpose,
to work off lag: pauses first, and beyond a hard bound the oldest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from personaplex_bridge.audio.backlog import CallerBacklog
from personaplex_bridge.audio.caller_time import CallerTime
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.lag import LagMeter, RecentLag
from personaplex_bridge.audio.mulaw import FRAME_MS, Pcm

MODEL_FRAME_MS = 80
FRAMES_PER_STEP = MODEL_FRAME_MS // FRAME_MS
STANDING_MS = 40
"""A lag of so much that doesn't go away by itself is worked off too, target or not."""
STANDING_S = 2.0


class Detector(Protocol):
    """Tells voice from other sound; `audio.voice.VoiceDetector`."""

    def listen(self, pcm: Pcm) -> list[bool]:
        """For each of the next frames of 160 samples at 8 kHz, whether there is voice in it."""
        ...


class Gate(Protocol):
    """Decides what the model hears; `audio.gate.NoiseGate`."""

    def opens(self, voiced: Sequence[bool]) -> bool:
        """Whether the next 80 ms, of four frames with voice or without, go to the model."""
        ...


class CallerAudio:
    """One call's caller, from Twilio's media messages to model frames of 80 ms.

    Until the first `settle` (the model isn't ready yet) the latest speech is kept, up to
    `limit_ms` and without the pauses around it. Later, pauses are shortened while the lag is
    above `target_ms`, or stands; never, if that is None.
    """

    def __init__(
        self,
        detector: Detector,
        gate: Gate | None,
        limit_ms: int,
        target_ms: int | None,
        audio_format: AudioFormat = TELEPHONE,
    ) -> None:
        self.time = CallerTime()
        self.backlog = CallerBacklog(limit_ms)
        self.lag = LagMeter()
        self.format = audio_format
        self.received_bytes = 0
        self.gated = 0
        """Frames of 20 ms that became silence."""
        self._narrowed = audio_format.narrow_view()
        self._bytes_per_ms = audio_format.bytes_per_s / 1000
        self._frame_bytes = audio_format.frame_bytes
        self._step_bytes = audio_format.frame_bytes * FRAMES_PER_STEP
        self._silent_step = audio_format.silent_frame * FRAMES_PER_STEP
        self._detector = detector
        self._gate = gate
        self._target_ms = target_ms
        self._recent = RecentLag(STANDING_S)
        self._settled = False
        self._catching_up = True
        self._fresh = b""
        self.in_haste = False
        """Whether it matters now to know of a voice at once (see `receive`)."""

    @property
    def waiting_frames(self) -> int:
        """Whole frames received and neither sent nor left out."""
        return len(self._fresh) // self._frame_bytes + len(self.backlog)

    def receive(self, timestamp_ms: int, payload: bytes) -> list[bool]:
        """Take a media message; for each frame that was listened to now, whether there is voice
        in it. Four frames are listened to at a time, or each as it comes while `in_haste`.
        """
        self.received_bytes += len(payload)
        missing = self.time.place(timestamp_ms, len(payload) / self._bytes_per_ms)
        if missing is None:
            return []
        voiced = self._listen() if missing else []
        self._append_silence(missing)
        self._fresh += payload
        if len(self._fresh) < (self._frame_bytes if self.in_haste else self._step_bytes):
            return voiced
        return voiced + self._listen()

    def fill(self) -> None:
        """Nothing has come for a while: let a model frame of silence pass instead."""
        self._listen()
        self.time.fill(FRAMES_PER_STEP)
        self._append_silence(FRAMES_PER_STEP)

    def unsettle(self) -> None:
        """The model is gone: until the next `settle`, keep the latest speech, as at first."""
        self._settled = False
        self._catching_up = True
        self._recent.reset()

    def settle(self, now_s: float, behind_ms: float) -> int:
        """Measure the lag, and shorten pauses while there is too much of it.

        `behind_ms` is the model's part of it. Returns how many milliseconds were left out.
        """
        self._settled = True
        lag_ms = max(0, len(self.backlog) * FRAME_MS - MODEL_FRAME_MS) + behind_ms
        self.lag.add(lag_ms)
        self._recent.add(now_s, lag_ms)
        if lag_ms <= FRAME_MS or self._target_ms is None:
            self._catching_up = False
        elif lag_ms > self._target_ms or self._recent.lowest_ms >= STANDING_MS:
            self._catching_up = True
        if not self._catching_up:
            return 0
        removed_ms = self.backlog.shorten(math.ceil(lag_ms / FRAME_MS)) * FRAME_MS
        self._recent.shift(-removed_ms)
        return removed_ms

    def take(self) -> bytes | None:
        """The next 80 ms for the model, media; None while they aren't complete."""
        frames = self.backlog.take(FRAMES_PER_STEP)
        if not frames:
            return None
        if self._gate is not None and not self._gate.opens([voiced for _, voiced in frames]):
            self.gated += FRAMES_PER_STEP
            return self._silent_step
        return b"".join([media for media, _ in frames])

    def _listen(self) -> list[bool]:
        """Listen to the whole frames that have come, and put them into the backlog."""
        size = self._frame_bytes
        whole = len(self._fresh) // size * size
        fresh, self._fresh = self._fresh[:whole], self._fresh[whole:]
        voiced = self._detector.listen(self._narrowed(fresh)) if whole else []
        for number, has_voice in enumerate(voiced):
            begin = number * size
            self.backlog.append((fresh[begin : begin + size], has_voice))
            # Not ready yet: leave out pauses, but have a model frame at hand to begin with.
            if not (has_voice or self._settled) and len(self.backlog) > FRAMES_PER_STEP:
                self.backlog.shorten(1)
        return voiced

    def _append_silence(self, frames: int) -> None:
        for _ in range(frames):
            self.backlog.append((self.format.silent_frame, False))
