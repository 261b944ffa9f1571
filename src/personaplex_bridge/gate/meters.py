"""What a gate counts, for /healthz and for stopping when nobody calls."""

from __future__ import annotations

from collections import Counter
from typing import Any

from personaplex_bridge.clock import Clock
from personaplex_bridge.gate.steps import StepMeter, Steps

TELL_S = 10.0
"""Refusals for one reason get a line of the log so often at most."""


class Meters:
    """The counts of a gate since it was started."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refused: Counter[str] = Counter()
        """By reason."""
        self.sessions_served = 0
        """Sessions that the model was connected for."""
        self.steps = Steps()
        self.audio_s: float | None = None
        """When a caller's audio last passed."""
        self._began_s = clock.now()
        self._told_s: dict[str, float] = {}

    def refuse(self, reason: str) -> bool:
        """Count a refusal; whether to log it. Strangers could fill a disk."""
        self.refused[reason] += 1
        now_s = self.clock.now()
        if now_s - self._told_s.get(reason, -TELL_S) < TELL_S:
            return False
        self._told_s[reason] = now_s
        return True

    @property
    def uptime_s(self) -> float:
        """Seconds since the gate was started."""
        return round(self.clock.now() - self._began_s, 1)

    @property
    def silent_s(self) -> float | None:
        """Seconds since a caller's audio last passed; None if none ever has."""
        return None if self.audio_s is None else round(self.clock.now() - self.audio_s, 1)

    def report(self) -> dict[str, Any]:
        """For those who have the token."""
        times = self.steps.times
        return {
            "sessions_served": self.sessions_served,
            "refused": dict(self.refused),
            "seconds_since_audio": self.silent_s,
            "step_ms": None
            if times is None
            else {"median": times.median_ms, "p95": times.p95_ms, "steps": times.steps},
            "keeps_up": None if times is None else times.keeps_up,
        }


class SessionMeter:
    """Counts for one session. Takes whole messages of kind 0x01."""

    def __init__(self, meters: Meters) -> None:
        self.discarded = 0
        """The client's messages before the handshake."""
        self._meters = meters
        self._clock = meters.clock
        self._steps = StepMeter(meters.steps)

    def heard(self, message: bytes) -> None:
        """A caller's audio passes."""
        now_s = self._clock.now()
        self._meters.audio_s = now_s
        self._steps.heard(message[1:], now_s)

    def said(self, message: bytes) -> None:
        """The model's audio passes."""
        self._steps.said(message[1:], self._clock.now())
