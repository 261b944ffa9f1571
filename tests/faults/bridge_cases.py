"""Faults of the bridge's own side: its process, its machine, its clock, its load."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from personaplex_bridge.simulator.plan import CallPlan
from personaplex_bridge.simulator.report import Doing, PhoneReport
from tests.faults.ear import without_seconds
from tests.faults.process import ServedBridge, served
from tests.faults.scene import HEALTHY, Case, Row, Told, call, told_of
from tests.faults.twilio_cases import good_server
from tests.live.harness import COLD, Line, standin

CALL_S = 6.0
A_DAY_S = 86_400.0
FULL_DISK = Path("/dev/full")
RUSH = 200
HOLD_PIECE_S = 8.0
"""Who holds asks for a server after each piece of music, or of words."""
QUEUE = dataclasses.replace(COLD, when_busy="queue", queue_limit=RUSH, webhook_rate=10_000)


async def _clock_jumps(line: Line) -> Told:
    """The wall's clock, a day ahead and a day back; the call's own knows nothing of it."""
    own, ahead_s = time.time, 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: own() + ahead_s)
        calling = asyncio.create_task(call(line, CallPlan("", b"", hang_up_after_s=CALL_S)))
        for ahead_s in (A_DAY_S, -A_DAY_S):  # noqa: B007 - the clock reads it
            await asyncio.sleep(2.0)
        return await calling


async def _drains(line: Line) -> Told:
    calling = asyncio.create_task(call(line, CallPlan("", b"", hang_up_after_s=60.0)))
    await asyncio.sleep(2.0)
    await line.bridge.drain(3.0)
    return await calling


async def _a_rush(line: Line) -> Told:
    """200 callers within a second."""
    calls = []
    for _ in range(RUSH):
        calls.append(asyncio.create_task(line.call(CallPlan("", b"", hang_up_after_s=3.0))))
        await asyncio.sleep(1.0 / RUSH)
    reports = await asyncio.gather(*calls)
    served = [report for report in reports if report.outcome.endswith("the caller hung up")]
    held_s = [report.held_s or 0.0 for report in reports]
    heard = (
        f"{sum(not held for held in held_s)} the model at once, "
        f"{sum(held > 0 for held in held_s)} their place and music first, for up to "
        f"{max(held_s):.0f} s; no silence longer than {max(r.dead_air_s for r in reports):.1f} s"
    )
    began_s = [_began(report) + index / RUSH for index, report in enumerate(reports)]
    order = "in order, but for a piece of music" if _is_sorted(began_s) else "NOT IN ORDER"
    return Told("", heard, f"{len(served)} of {RUSH} were put through, {order}")


def _began(report: PhoneReport) -> float:
    """When the model was reached, in the call's time."""
    return next(moment.at_s for moment in report.moments if moment.doing is Doing.STREAMS)


def _is_sorted(moments_s: list[float]) -> bool:
    """But for who asks a moment later than who came a moment later."""
    return all(later > earlier - HOLD_PIECE_S for earlier, later in pairwise(moments_s))


@asynccontextmanager
async def _twenty_servers() -> AsyncIterator[list[str]]:
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(standin(HEALTHY)) for _ in range(20)]
        yield [url for url, _ in servers]
        assert not any(model.crowded for _, model in servers)


Deed = Callable[[ServedBridge], Awaitable[None]]


def _process(name: str, deed: Deed, *, log: Path | None = None, **environ: str) -> Case:
    """A bridge that is a process, with two calls; something is done to it after 2.5 s."""

    async def play() -> Row:
        async with standin(HEALTHY) as (one, first), standin(HEALTHY) as (two, second):
            async with served([one, two], log=log, **environ) as bridge:
                calls = [asyncio.create_task(bridge.call(CALL_S)) for _ in range(2)]
                await asyncio.sleep(2.5)
                await deed(bridge)
                reports = await asyncio.gather(*calls)
            await asyncio.sleep(0.2)
            sessions = [*first.sessions, *second.sessions]
            left = ["a session of the model's" for one in sessions if one.ended == "running"]
        told, other = (told_of(report) for report in reports)
        same = "as this one" if _alike(told, other) else other.heard
        return Row("bridge", name, told.heard, told.outcome, same, ", ".join(left) or "nothing")

    return Case("bridge", name, real=play)


def _alike(one: Told, other: Told) -> bool:
    """But for tenths of a second."""
    return without_seconds(one.heard) == without_seconds(other.heard)


async def _nothing(_bridge: ServedBridge) -> None:
    pass


async def _is_killed(bridge: ServedBridge) -> None:
    bridge.process.kill()


async def _is_asked_to_stop(bridge: ServedBridge) -> None:
    bridge.process.send_signal(signal.SIGTERM)


async def _is_told_twice(bridge: ServedBridge) -> None:
    for _ in range(2):
        bridge.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)


CASES = [
    Case("bridge", "200 callers at once on 20 servers", _a_rush, _twenty_servers, QUEUE),
    Case("bridge", "the wall's clock jumps by a day, and back", _clock_jumps, good_server),
    Case("bridge", "is drained, and a call takes longer", _drains, good_server, is_private=False),
    _process("has no room for its log (/dev/full)", _nothing, log=FULL_DISK),
    _process("SIGTERM, and the calls end in time", _is_asked_to_stop),
    _process("SIGTERM, with DRAIN_TIMEOUT=1", _is_asked_to_stop, DRAIN_TIMEOUT="1"),
    _process("SIGTERM twice", _is_told_twice),
    _process("SIGKILL", _is_killed),
]
