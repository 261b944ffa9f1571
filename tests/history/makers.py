"""Calls to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from personaplex_bridge.callers import masked
from personaplex_bridge.history.backlog import Backlog, Entry
from personaplex_bridge.history.calls import (
    Call,
    Details,
    Event,
    EventKind,
    Outcome,
    Phrase,
    WholeCall,
    new_id,
)
from personaplex_bridge.history.database import Database
from personaplex_bridge.history.spool import Spool
from personaplex_bridge.history.writing import Writer

KEY = "0123456789abcdef-key"
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CALLER, OTHER = "+15551230111", "+15551230222"


def entry(
    *said: str,
    minute: float = 0.0,
    number: str = CALLER,
    began: datetime = BEGAN,
    over: bool = True,
    **changes: Any,
) -> Entry:
    """A call that began so many minutes after `began`, in which the model said some phrases."""
    started = began + timedelta(minutes=minute)
    call = Call(
        id=new_id(started),
        call_sid="CA" + "1" * 32,
        stream_sid="MZ" + "2" * 32,
        bridge="here:8080",
        persona="assistant",
        model_server=1,
        caller=masked(number),
        called="+155***00",
        started_at=started,
        updated_at=started + timedelta(seconds=60),
        ended_at=started + timedelta(seconds=60) if over else None,
        outcome=Outcome.HUNG_UP if over else Outcome.IN_PROGRESS,
        ended_by="caller" if over else "",
        ended_reason="the caller hung up" if over else "",
        close_code=1000 if over else None,
        duration_s=60.0,
        handshake_s=0.01,
        first_audio_s=0.13,
        turns=2,
        turn_delay_s=0.45,
        barge_ins=1,
        failures=0,
        model_failed=False,
        keys=3,
        gaps=0,
    )
    phrases = tuple(Phrase(float(at), text) for at, text in enumerate(said))
    events = (
        Event(0.0, EventKind.START),
        Event(5.5, EventKind.BARGE_IN, {"waiting_ms": 340.0}),
        Event(9.0, EventKind.FAILURE, {"reason": "code 1011", "gone_s": None}),
    )
    figures = {"caller_frames": 3000, "uplink_lag": {"p50_ms": 20.0}, "bad_messages": {"json": 1}}
    whole = WholeCall(dataclasses.replace(call, **changes), Details(phrases, events, figures))
    return Entry(whole, number)


def writer_for(database: Database, backlog: Backlog, folder: Path, began: int = 0) -> Writer:
    return Writer(database, backlog, Spool(folder / "spool.jsonl"), "here:8080", began)


async def write(database: Database, entries: Iterable[Entry], folder: Path) -> None:
    """Write calls as a bridge does."""
    backlog = Backlog(1_000_000)
    for one in entries:
        backlog.put(one)
    await writer_for(database, backlog, folder).finish(600.0)
    assert not (folder / "spool.jsonl").exists()


def ids(calls: Sequence[Call]) -> list[str]:
    return [call.id for call in calls]
