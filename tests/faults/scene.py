"""One fault, played on real sockets in virtual time, and what came of it.

Beside the call that suffers, another call is in progress on a server of its own. It must notice
nothing: what it hears is compared, byte by byte, with what it hears when nothing goes wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

from personaplex_bridge.audio.opus import OpusDecoder, OpusEncoder
from personaplex_bridge.config import Settings
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.record import CallRecord
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.report import Doing, PhoneReport
from personaplex_bridge.twilio.stream import MediaStream
from tests.faults.ear import RING, tell
from tests.live.harness import COLD, Line, bridge_to, standin, until
from tests.virtual import run_cleanly

HEALTHY = ModelOptions("tone", prompt_ms=0, step_ms=0)
_PLACES = re.compile(r"(?<=127\.0\.0\.1):\d+|\(?_ssl\.c:\d+\)?")
"""What is another one each time."""

AT_ONCE = 4
"""Faults that are played in real time beside one another: they wait most of it."""
OTHER_S = 60.0
"""How long the other call is."""
AFTER_S = 40.0
"""Until whatever was begun for the call that suffers has ended: reservations, attempts, pauses."""

KEPT = (BridgeSession, MediaStream, PreparedLine, OpusEncoder, OpusDecoder)
"""What a call is made of: none may be there when it is over."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of the call that suffers, as its caller tells it."""

    call_sid: str
    heard: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Case:
    """A fault. `server` gives the addresses of the servers that fail, inside its block."""

    side: str
    name: str
    act: Callable[[Line], Awaitable[Told]] | None = None
    server: Callable[[], AbstractAsyncContextManager[list[str]]] | None = None
    settings: Settings = COLD
    is_private: bool = True
    """Whether it is this call's alone; else the other one may notice, too."""
    real: Callable[[], Coroutine[Any, Any, Row]] | None = None
    """In real time instead."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is written down of a fault."""

    side: str
    name: str
    heard: str
    ended: str
    other: str
    left: str


def play_all(cases: Sequence[Case]) -> Iterator[Row]:
    """Play them, in order; those in real time several at once."""
    real = iter(asyncio.run(_play_real([case for case in cases if case.real is not None])))
    for case in cases:
        yield play(case) if case.real is None else next(real)


async def _play_real(cases: Sequence[Case]) -> list[Row]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def play_one(case: Case) -> Row:
        assert case.real is not None
        async with gate:
            return await case.real()

    return await asyncio.gather(*(play_one(case) for case in cases))


def play(case: Case) -> Row:
    """Play it in virtual time. Fails if tasks or sockets are left behind."""
    baseline = _baseline()
    gc.collect()
    before = _kept()
    told, record, other, left = run_cleanly(_play(case))
    gc.collect()
    grown = _kept() - before
    left += [f"{number} {name}" for name, number in sorted(grown.items())]
    same = bytes(other.heard) == baseline and not other.problems
    return Row(
        case.side,
        case.name,
        told.heard,
        _ended(told, record),
        "the same" if same else "SOMETHING ELSE" if case.is_private else "as this one",
        ", ".join(left) or "nothing",
    )


@cache
def _baseline() -> bytes:
    """What the other call hears when nothing goes wrong."""

    async def nothing(_line: Line) -> Told:
        return Told("", "", "")

    _, _, other, _ = run_cleanly(_play(Case("", "nothing", nothing)))
    assert len(other.heard) == OTHER_S * 8000
    assert tell(bytes(other.heard)).endswith("s")
    return bytes(other.heard)


async def _play(case: Case) -> tuple[Told, CallRecord | None, PhoneReport, list[str]]:
    async with contextlib.AsyncExitStack() as stack:
        healthy, _ = await stack.enter_async_context(standin(HEALTHY))
        servers = [healthy]
        if case.server is not None:
            servers += await stack.enter_async_context(case.server())
        line = await stack.enter_async_context(
            bridge_to(servers, case.settings, waiting_sound=RING)
        )
        other = asyncio.create_task(line.call(CallPlan("", b"", hang_up_after_s=OTHER_S)))
        await until(lambda: any(r.first_audio_s is not None for r in line.bridge.records))
        assert case.act is not None
        told = await case.act(line)
        report = await other
        await asyncio.sleep(AFTER_S)
        left = ["a line"] if line.pool.is_taken else []
        left += ["a session"] if line.bridge.records else []
        records = {record.call_sid: record for record in _all(line.records)}
        return told, records.get(told.call_sid), report, left


def _all(records: asyncio.Queue[CallRecord]) -> Iterator[CallRecord]:
    while not records.empty():
        yield records.get_nowait()


def _ended(told: Told, record: CallRecord | None) -> str:
    if record is None or record.ending is None:
        return told.outcome
    reason = _PLACES.sub("", record.ending.reason)
    return f"{reason} ({record.ending.close_code}); Twilio: {told.outcome}"


def _kept() -> Counter[str]:
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, KEPT))


async def call(line: Line, plan: CallPlan) -> Told:
    """A whole call, from webhook to hang-up."""
    report = await line.call(plan)
    return told_of(report)


def told_of(report: PhoneReport) -> Told:
    """What a phone's report tells, in order: Twilio's own sounds, and the stream's."""
    parts = []
    for moment in report.moments:
        match moment.doing:
            case Doing.STREAMS:
                parts.append(tell(bytes(report.heard)))
            case Doing.SAYS:
                parts.append(f"“{moment.what}”")
            case Doing.PLAYS:
                parts.append("hold music")
            case Doing.DIALS:
                parts.append("is forwarded")
            case Doing.RECORDS:
                parts.append("leaves a message")
            case Doing.PAUSES:
                parts.append(f"silence {moment.for_s:.1f} s")
    return Told(report.call_sid, ", ".join(parts), report.outcome)
