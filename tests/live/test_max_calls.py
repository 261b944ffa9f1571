"""MAX_CALLS: kept whenever streams come, and whoever was put through is not turned away later."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import aiohttp

from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.plan import CallPlan
from personaplex_bridge.simulator.report import Doing
from personaplex_bridge.web.paths import QUEUED_PATH, WAIT_PATH, WEBHOOK_PATH
from tests.live.harness import (
    COLD,
    HOST,
    Line,
    full_line,
    in_conversation,
    raw_twilio,
    stop,
    until,
)
from tests.virtual import in_virtual_time

QUIET = ModelOptions("silence", prompt_ms=0, step_ms=0)
ONE = dataclasses.replace(COLD, when_busy="queue", personaplex_capacity=5, max_calls=1)
"""The model servers would take more."""


async def ask(line: Line, path: str, call: str, **form: str) -> str:
    """A webhook of a test's own; what it answers."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://{HOST}:{line.port}{path}", data={"CallSid": call, **form}) as answer,
    ):
        return await answer.text()


@in_virtual_time
async def test_more_calls_than_may_be_hold() -> None:
    settings = dataclasses.replace(COLD, when_busy="queue", personaplex_capacity=5, max_calls=1)
    async with full_line(QUIET, settings) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        calling = asyncio.create_task(line.call(CallPlan("", b"", hang_up_after_s=2.0)))
        await asyncio.sleep(10.0)
        assert len(model.sessions) == 1
        await peer.send(stop())
        report = await calling
    assert report.queue_results == ["leave"]
    assert report.outcome.endswith("the caller hung up")


@in_virtual_time
async def test_a_place_is_theirs_who_hold() -> None:
    """Not a newcomer's, nor one's behind, who happens to be asked for first."""
    async with full_line(QUIET, ONE) as (line, model):
        async with raw_twilio(line) as peer:
            await in_conversation(line, peer, model)
            for call in ("CA1", "CA2"):
                assert "<Enqueue" in await ask(line, WEBHOOK_PATH, call)
                assert "<Say" in await ask(line, WAIT_PATH, call)
                await asyncio.sleep(0.1)
            await peer.send(stop())
            await line.record()
        assert "<Enqueue" in await ask(line, WEBHOOK_PATH, "CA3")
        assert "<Play" in await ask(line, WAIT_PATH, "CA2")
        assert "<Leave" in await ask(line, WAIT_PATH, "CA1")
        assert "<Connect" in await ask(line, QUEUED_PATH, "CA1", QueueResult="leave")


@in_virtual_time
async def test_two_who_dial_at_once() -> None:
    """The second holds, however slow the first one's phone is to bring its stream."""
    slow = CallPlan("", b"", hang_up_after_s=5.0, faults=CallFaults(answer_after_s=2.0))
    async with full_line(QUIET, ONE) as (line, model):
        first, second = await asyncio.gather(
            line.call(slow), line.call(CallPlan("", b"", hang_up_after_s=5.0))
        )
    assert sorted([first.queue_results, second.queue_results]) == [[], ["leave"]]
    assert [first.outcome, second.outcome] == ["the caller hung up"] * 2
    assert (first.problems, second.problems) == ([], [])
    assert len(model.sessions) == 2
    assert all(len(report.of(Doing.STREAMS)) == 1 for report in (first, second))


@in_virtual_time
async def test_streams_that_come_together() -> None:
    """Sockets that only connect take nobody's place; of those that start, so many get in."""
    async with (
        full_line(QUIET, ONE) as (line, model),
        raw_twilio(line, start=False),
        contextlib.AsyncExitStack() as stack,
    ):
        peers = [
            await stack.enter_async_context(raw_twilio(line, call_sid=f"CA{number}"))
            for number in range(3)
        ]
        await until(lambda: len(model.sessions) == 1)
        assert [await peer.close_code() for peer in peers[1:]] == [1013, 1013]
        for _ in peers[1:]:
            record = await line.record()
            assert record.ending is not None
            assert record.ending.reason == "there are 1 calls, as many as MAX_CALLS allows"
        await peers[0].send(stop())
        assert await peers[0].close_code() == 1000


@in_virtual_time
async def test_a_stream_whose_webhook_was_let_in_finds_room() -> None:
    """Others that come before it can't take its place."""
    async with full_line(QUIET, ONE) as (line, _):
        assert "<Connect" in await ask(line, WEBHOOK_PATH, "CA1")
        async with raw_twilio(line, call_sid="CA9") as other:
            assert await other.close_code() == 1013
        async with raw_twilio(line, call_sid="CA1") as peer:
            await peer.speak(50)
            assert [record.call_sid for record in line.bridge.records] == ["CA1"]
            assert "<Enqueue" in await ask(line, WEBHOOK_PATH, "CA2")


@in_virtual_time
async def test_who_leaves_the_queue_is_put_through_though_others_come() -> None:
    async with full_line(QUIET, ONE) as (line, model):
        async with raw_twilio(line) as peer:
            await in_conversation(line, peer, model)
            assert "<Enqueue" in await ask(line, WEBHOOK_PATH, "CA1")
            assert "number 1" in await ask(line, WAIT_PATH, "CA1")
            await peer.send(stop())
            await line.record()
        assert "<Leave" in await ask(line, WAIT_PATH, "CA1", QueueTime="5")
        assert "<Enqueue" in await ask(line, WEBHOOK_PATH, "CA2")
        async with raw_twilio(line, call_sid="CA3") as other:
            assert await other.close_code() == 1013
        assert "<Connect" in await ask(line, QUEUED_PATH, "CA1", QueueResult="leave")
