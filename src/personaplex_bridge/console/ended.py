"""Calls that were over a short while ago: the console has these without a call history, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from personaplex_bridge.console.live import sid_of
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
        self.forgets = 0
        """How often calls were forgotten."""
        self._wall_s = wall_s
        self._in_progress: set[str] = set()
        self._unwanted: set[str] = set()
        """Of these: calls that won't be remembered when they are over."""

    def call_begins(self, record: CallRecord) -> None:
        """A call was let in."""
        self._in_progress.add(sid_of(record))

    def call_over(self, record: CallRecord) -> None:
        """A call has ended; one that was let in."""
        sid = sid_of(record)
        self._in_progress.discard(sid)
        if sid in self._unwanted:
            self._unwanted.discard(sid)
        elif record.persona and record.ending is not None:
            self.latest.append(_ended(record, record.ending, self._wall_s()))

    def forget(self, sids: Collection[str]) -> None:
        """Show nothing more of calls that were deleted: those that are over, and those in progress
        once they are.
        """
        self._unwanted |= self._in_progress & set(sids)
        kept = [one for one in self.latest if one.sid not in sids]
        if len(kept) < len(self.latest):
            self.forgets += 1
            self.latest = deque(kept, maxlen=MAX_ENDED)


def _ended(record: CallRecord, ending: Ending, now_s: float) -> EndedCall:
    return EndedCall(
        sid=sid_of(record),
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
