"""A call history as a bridge keeps it: a dozen calls, one of them recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from personaplex_bridge.audio.mulaw import SILENCE
from personaplex_bridge.history.backlog import Entry
from personaplex_bridge.history.calls import Details, Event, EventKind, Outcome, Phrase
from personaplex_bridge.history.database import Database
from personaplex_bridge.history.store import History
from personaplex_bridge.past_calls import PastCalls
from personaplex_bridge.recording.opusfile import OpusFile
from personaplex_bridge.values import database_url
from tests.history.makers import CALLER, OTHER, entry, write
from tests.live.harness import speech

SECONDS = 24
RATE_HZ = 8000
KEY = "0123456789abcdef-key"
MODEL_BEGINS_S = 1.0

SAID = (
    "Good evening, and welcome. What can I do for you?",
    "The rain had not stopped since Tuesday.",
    "Nobody walks into this office with good news.",
    "Then tell me from the beginning, and leave nothing out.",
)


@dataclass(frozen=True)
class Shelf:
    """What there is: `past` for a console, and the calls, the newest last."""

    past: PastCalls
    history: History
    database: Database
    calls: list[Entry]
    recording: Path

    @property
    def recorded(self) -> str:
        """The id of the call with a recording: the newest."""
        return self.calls[-1].id


@asynccontextmanager
async def shelf(folder: Path) -> AsyncIterator[Shelf]:
    """Such a history, in a folder."""
    recordings = folder / "recordings"
    now = datetime.now(UTC)
    name = f"{now:%Y-%m-%d}/120000.000000-CA{'1' * 32}.opus"
    database = Database(database_url(f"sqlite:///{folder / 'shelf.db'}"), KEY)
    calls = [*_plain_calls(now), _recorded_call(now, name)]
    try:
        await write(database, calls, folder)
        record(recordings / name)
        history = History(database, recordings=recordings)
        yield Shelf(PastCalls(history), history, database, calls, recordings / name)
    finally:
        await database.close()


def said(seconds: int) -> bytes:
    """So much of the caller's speech, over and over, as mu-law."""
    return (speech() * 100)[: seconds * RATE_HZ]


def record(path: Path, seconds: int = SECONDS) -> None:
    """A recording: the caller's speech left, and right the same a second later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left, late = said(seconds), SILENCE * round(MODEL_BEGINS_S * RATE_HZ)
    size, file = len(left), OpusFile(path)
    for begin in range(0, size, RATE_HZ):
        part = slice(begin, begin + RATE_HZ)
        file.write(left[part], (late + left)[:size][part])
    file.close()


def _plain_calls(now: datetime) -> list[Entry]:
    made = []
    for number in range(11):
        changes: dict[str, Any] = {"persona": ("assistant", "noir", "teacher")[number % 3]}
        if number == 4:
            changes |= {"outcome": Outcome.MODEL_FAILED, "model_failed": True, "failures": 1}
            changes |= {"ended_by": "model", "ended_reason": "no model in time", "turns": 0}
            changes |= {"turn_delay_s": None, "close_code": 1011}
        changes |= {"duration_s": 20.0 + 37 * number}
        who = "anonymous" if number == 2 else CALLER if number % 2 else OTHER
        began = now - timedelta(hours=9 * (11 - number))
        made.append(entry(SAID[number % 4], number=who, began=began, **changes))
    return made


def _recorded_call(now: datetime, name: str) -> Entry:
    began = now - timedelta(minutes=12)
    turns = [(5.2, 0.41), (11.0, 0.38), (16.6, 0.62), (21.3, 0.29)]
    call = entry(
        "", began=began, persona="noir", duration_s=float(SECONDS), turns=len(turns), failures=1
    )
    events = [
        Event(0.0, EventKind.START),
        Event(0.02, EventKind.MODEL_READY),
        Event(0.12, EventKind.FIRST_AUDIO),
        *(Event(at_s, EventKind.TURN, {"delay_s": delay_s}) for at_s, delay_s in turns),
        Event(13.4, EventKind.BARGE_IN, {"waiting_ms": 340.0}),
        Event(18.1, EventKind.FAILURE, {"reason": "code 1011", "gone_s": 1.4}),
        Event(float(SECONDS), EventKind.END, {"by": "caller", "reason": "the caller hung up"}),
    ]
    phrases = tuple(
        _phrase(at_s, text) for (at_s, _), text in zip([(0.4, 0), *turns[:3]], SAID, strict=True)
    )
    figures = {**call.whole.details.figures, "recording": f"/elsewhere/{name}"}
    details = Details(phrases, tuple(sorted(events, key=lambda event: event.at_s)), figures)
    return Entry(replace(call.whole, details=details), CALLER)


def _phrase(at_s: float, text: str) -> Phrase:
    words = range(len(text.split()))
    return Phrase(at_s, text, tuple(round(at_s + 0.4 * number, 2) for number in words))
