"""How long the model takes for a step, measured from outside.

The model is locked to frames: 80 ms of audio come out for each 80 ms that went in. A step can't
begin before the message that completes its frame has arrived, nor before the step before it is
done. So a step lasts from the later of these two moments to its answer. That is exact to within
what the loopback device and the gate take (well under a millisecond), for a caller who sends
messages of any length, and for a model that keeps up as well as for one that falls behind.
It can't be told when pages are split over messages; then nothing is measured for that session.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

from personaplex_bridge.gate.pages import SAMPLES_PER_SECOND, samples_in

FRAME_SAMPLES = SAMPLES_PER_SECOND * 80 // 1000
FRAME_MS = 80.0
KEPT_STEPS = 200
MAX_UNANSWERED = 3000
"""Frames in (four minutes, the model's whole context) without their answers."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Of the latest steps, in milliseconds."""

    median_ms: float
    p95_ms: float
    steps: int

    @property
    def keeps_up(self) -> bool:
        """Whether the model is faster than real time, in 19 of 20 steps."""
        return self.p95_ms < FRAME_MS


class Steps:
    """The latest step times, over all sessions."""

    def __init__(self) -> None:
        self._times_ms: deque[float] = deque(maxlen=KEPT_STEPS)

    def add(self, seconds: float) -> None:
        """One step was so long."""
        self._times_ms.append(1000 * seconds)

    @property
    def times(self) -> StepTimes | None:
        """None before the first step."""
        if not self._times_ms:
            return None
        ordered = sorted(self._times_ms)
        p95 = ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
        return StepTimes(round(statistics.median(ordered), 1), round(p95, 1), len(ordered))


class StepMeter:
    """Measures the steps of one session. Times are readings of one clock, in seconds."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._samples_in = self._samples_out = 0
        self._arrived: deque[float] = deque(maxlen=MAX_UNANSWERED)
        """When each frame that is still to be answered was complete."""
        self._answered_s = 0.0
        self._is_lost = False

    def heard(self, ogg: bytes, now_s: float) -> None:
        """Audio goes to the model."""
        before, self._samples_in = self._samples_in, self._samples_in + self._count(ogg)
        frames = self._samples_in // FRAME_SAMPLES - before // FRAME_SAMPLES
        self._arrived.extend([now_s] * frames)

    def said(self, ogg: bytes, now_s: float) -> None:
        """Audio came from the model."""
        before, self._samples_out = self._samples_out, self._samples_out + self._count(ogg)
        frames = self._samples_out // FRAME_SAMPLES - before // FRAME_SAMPLES
        for _ in range(min(frames, len(self._arrived))):
            began_s = max(self._arrived.popleft(), self._answered_s)
            # Several at once (Kyutai's server) took the time between them.
            self._steps.add((now_s - began_s) / frames)
        if frames:
            self._answered_s = now_s

    def _count(self, ogg: bytes) -> int:
        if self._is_lost:
            return 0
        try:
            return samples_in(ogg)
        except ValueError:
            self._is_lost = True
            self._arrived.clear()
            return 0
