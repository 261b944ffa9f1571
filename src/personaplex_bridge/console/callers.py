"""What the console knows of calls beside their sessions: who calls, masked, and how calls ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from personaplex_bridge.observing import Observer, Webhook
from personaplex_bridge.record import CallRecord, phrases

MAX_CALLERS = 10_000
"""Callers remembered, from their webhook on; the oldest go first."""

MAX_ENDED = 50
"""Calls that are over and still shown. The console has these without a call history, too."""


def masked(number: str) -> str:
    """A number as it may be shown: `+15550100123` as `+155…0123`, shorter ones with less of them,
    so that at least three digits are hidden. Of an address such as `client:…` the kind stays.
    `anonymous` is nobody.
    """
    scheme, colon, _ = number.partition(":")
    if colon:
        return f"{scheme[:10]}:…"
    if number.isalpha() or not number:
        return number[:20]
    head, tail = (4, 4) if len(number) > 10 else (3, 2) if len(number) > 7 else (0, 0)
    return f"{number[:head]}…{number[len(number) - tail :]}"


@dataclass(frozen=True, slots=True)
class Parties:
    """Who talks to whom, masked. Empty where Twilio did not say."""

    caller: str = ""
    called: str = ""


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that was over a short while ago."""

    sid: str
    persona: str
    caller: str
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


class Callers(Observer):
    """Looks on, and remembers. `wall_s` is the time of day."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self.ended: deque[EndedCall] = deque(maxlen=MAX_ENDED)
        """The latest last."""
        self._parties: dict[str, Parties] = {}
        self._wall_s = wall_s

    def of(self, call_sid: str) -> Parties:
        """Who has this call."""
        return self._parties.get(call_sid, Parties())

    def webhook_answered(self, webhook: Webhook) -> None:
        """Somebody calls. Their number is not kept, only its mask."""
        if not (webhook.call_sid and webhook.caller):
            return
        while len(self._parties) >= MAX_CALLERS:
            del self._parties[next(iter(self._parties))]
        parties = Parties(masked(webhook.caller), masked(webhook.called))
        self._parties[webhook.call_sid] = parties

    def call_over(self, record: CallRecord) -> None:
        """A call has ended; one that was let in."""
        if record.persona and record.ending is not None:
            self.ended.append(self._ended(record))

    def _ended(self, record: CallRecord) -> EndedCall:
        parties, ending = self._parties.pop(record.call_sid, Parties()), record.ending
        assert ending is not None  # noqa: S101 - `call_over` has looked
        return EndedCall(
            sid=record.call_sid or record.stream_sid,
            persona=record.persona,
            caller=parties.caller,
            called=parties.called,
            ended_at_s=round(self._wall_s(), 3),
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
