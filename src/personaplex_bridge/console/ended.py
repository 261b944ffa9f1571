"""Calls that were over a short while ago: the console has these without a call history, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from personaplex_bridge.observing import Observer
from personaplex_bridge.record import CallRecord, Ending, phrases

MAX_ENDED = 50
"""Calls that are over and still shown; the oldest go first."""


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that was over a short while ago."""

    sid: str
    persona: str
    caller: str
    """Masked, as `called` is; empty where Twilio did not say."""
    called: str
    ended_at_s: float
    """Seconds since 1970."""
    duration_s: float
    ended_by: str
    kind: str
    reason: str
    """For people."""
    close_code: int
    turns: int
    barge_ins: int
    failures: int
    transcript: tuple[tuple[float, str], ...] = field(repr=False)
    """Phrases of the model, and when each began."""


class EndedCalls(Observer):
    """Looks on, and remembers. `wall_s` is the time of day."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self.latest: deque[EndedCall] = deque(maxlen=MAX_ENDED)
        """The latest last."""
        self._wall_s = wall_s

    def call_over(self, record: CallRecord) -> None:
        """A call has ended; one that was let in."""
        if record.persona and record.ending is not None:
            self.latest.append(_ended(record, record.ending, self._wall_s()))


def _ended(record: CallRecord, ending: Ending, now_s: float) -> EndedCall:
    return EndedCall(
        sid=record.call_sid or record.stream_sid,
        persona=record.persona,
        caller=record.caller,
        called=record.called,
        ended_at_s=round(now_s, 3),
        duration_s=round(record.duration_s, 3),
        ended_by=str(ending.by),
        kind=ending.kind,
        reason=ending.reason,
        close_code=ending.close_code,
        turns=len(record.turn_delays_s),
        barge_ins=len(record.barge_ins),
        failures=len(record.failures),
        transcript=_spoken(phrases(record.words)),
    )


def _spoken(said: Iterable[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    return tuple((round(at_s, 2), text) for at_s, text in said)
