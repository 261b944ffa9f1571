"""SIGTERM, as the application sees it: calls go on, new ones don't begin."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import aiohttp
import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.pool.leases import MemoryLeases
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.plan import CallPlan
from personaplex_bridge.values import ServerAddress
from personaplex_bridge.web.bridge import GOODBYE_TIMEOUT_S, Bridge
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import (
    CLOCK,
    COLD,
    HOST,
    Line,
    bridge_to,
    full_line,
    in_conversation,
    raw_twilio,
    standin,
    stop,
)
from tests.virtual import in_virtual_time

QUIET = ModelOptions("silence", prompt_ms=0, step_ms=0)


async def ready(line: Line) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(line.webhook.replace("/voice/inbound", "/readyz")) as answer,
    ):
        return answer.status, (await answer.json())["status"]


@in_virtual_time
async def test_a_call_in_progress_goes_on() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        assert await ready(line) == (200, "ready")
        await in_conversation(line, peer, model)
        draining = asyncio.create_task(line.bridge.drain(60.0))
        await peer.speak(500)
        assert await ready(line) == (503, "draining")
        assert not draining.done()
        await peer.send(stop())
        assert await peer.close_code() == 1000
        await asyncio.wait_for(draining, 1.0)


@in_virtual_time
async def test_and_is_ended_when_it_takes_too_long() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        began = CLOCK.now()
        draining = asyncio.create_task(line.bridge.drain(10.0))
        await peer.speak(499)
        assert await peer.close_code(1.0) == 1001
        await draining
        assert CLOCK.now() - began == pytest.approx(10.0 + GOODBYE_TIMEOUT_S, abs=0.3)


@in_virtual_time
async def test_callers_are_welcome_without_a_model() -> None:
    """Were all bridges taken out then, nobody would say sorry."""
    async with bridge_to("ws://127.0.0.1:9/api/chat") as line:
        for _ in range(4):
            report = await line.call(CallPlan("", b"", hang_up_after_s=10.0))
            assert report.said_by_twilio == [COLD.sorry_words]
        assert [server.circuit for server in line.pool.servers] == ["open"]
        assert await ready(line) == (200, "ready")


@in_virtual_time
async def test_the_door_is_closed_while_calls_are_ended_at_once() -> None:
    """As after SIGINT: no new call comes in while Twilio is waited for."""
    async with (
        full_line(QUIET, dataclasses.replace(COLD, personaplex_capacity=2)) as (line, model),
        raw_twilio(line) as peer,
        aiohttp.ClientSession() as http,
    ):
        await in_conversation(line, peer, model)
        ending = asyncio.create_task(line.bridge.say_goodbye())
        assert await peer.close_code() == 1001
        assert not ending.done()
        assert await ready(line) == (503, "draining")
        async with http.post(line.webhook, data={"CallSid": "CA1"}) as answer:
            assert "Please call again" in await answer.text()
        await ending


@in_virtual_time
async def test_without_calls_it_is_done_at_once() -> None:
    async with full_line(QUIET) as (line, _):
        began = CLOCK.now()
        await line.bridge.drain(60.0)
        assert CLOCK.now() - began < 0.1


@in_virtual_time
async def test_a_call_whose_stream_is_still_to_come_is_waited_for() -> None:
    async with full_line(QUIET) as (line, _), aiohttp.ClientSession() as http:
        async with http.post(line.webhook, data={"CallSid": "CA1"}) as answer:
            assert "<Stream" in await answer.text()
        draining = asyncio.create_task(line.bridge.drain(60.0))
        await asyncio.sleep(1.0)
        assert not draining.done()
        async with raw_twilio(line, call_sid="CA1") as peer:
            await peer.speak(50)
            assert not draining.done()
            await peer.send(stop())
            await peer.close_code()
        await asyncio.wait_for(draining, 1.0)


@pytest.mark.parametrize("drain_to", [None, "https://other.example"])
@in_virtual_time
async def test_new_calls_go_elsewhere_meanwhile(drain_to: str | None) -> None:
    settings = dataclasses.replace(COLD, when_busy="queue", drain_to=drain_to)
    async with full_line(QUIET, settings) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        async with aiohttp.ClientSession() as http:

            async def ask(path: str, **form: str) -> str:
                url = line.webhook.replace("/voice/inbound", path)
                async with http.post(url, data={"CallSid": "CA2", **form}) as answer:
                    return await answer.text()

            assert "<Enqueue" in await ask("/voice/inbound")
            draining = asyncio.create_task(line.bridge.drain(60.0))
            await asyncio.sleep(1.0)
            assert "<Leave" in await ask("/voice/wait?persona=noir")
            told = await ask("/voice/queued?persona=noir", QueueResult="leave")
            assert told == await ask("/voice/inbound?persona=noir")
            if drain_to is None:
                assert "Please call again" in told
            else:
                url = f"{drain_to}/voice/inbound?persona=noir&amp;sent-on=yes"
                assert f"<Redirect>{url}</Redirect>" in told
        await peer.send(stop())
        await draining


@in_virtual_time
async def test_who_was_sent_on_is_not_sent_on_again() -> None:
    """Two bridges that are drained at once, and know of each other, would send callers round."""
    back = dataclasses.replace(COLD, drain_to="http://127.0.0.1:9")
    async with full_line(QUIET, back) as (other, _):
        there = f"http://{HOST}:{other.port}"
        async with full_line(QUIET, dataclasses.replace(COLD, drain_to=there)) as (line, _):
            await asyncio.gather(line.bridge.drain(1.0), other.bridge.drain(1.0))
            report = await line.call(CallPlan("", b"", hang_up_after_s=2.0))
    assert report.said_by_twilio == [COLD.again_words]
    assert report.problems == []


@asynccontextmanager
async def bridge_of(url: str, leases: MemoryLeases, settings: Settings) -> AsyncIterator[Line]:
    """A bridge whose line is others' too, as if by a Redis."""
    settings = dataclasses.replace(settings, leases_url="redis://unused")
    pool = ModelPool([ServerAddress(url, 1)], leases)
    bridge = Bridge(settings, load_catalogue(), pool, clock=CLOCK)
    async with hosted(bridge.application(), HOST, 0) as port:
        yield Line(port, bridge, pool)


@in_virtual_time
async def test_who_is_sent_on_keeps_their_place() -> None:
    settings, leases = dataclasses.replace(COLD, when_busy="queue"), MemoryLeases()
    async with standin(QUIET) as (url, model), bridge_of(url, leases, settings) as other:
        there = f"http://{HOST}:{other.port}"
        settings = dataclasses.replace(settings, drain_to=there)
        async with (
            bridge_of(url, leases, settings) as line,
            raw_twilio(other) as peer,
            aiohttp.ClientSession() as http,
        ):

            async def ask(url: str, call: str, **form: str) -> str:
                async with http.post(url, data={"CallSid": call, **form}) as answer:
                    return await answer.text()

            here = f"http://{HOST}:{line.port}"
            await in_conversation(other, peer, model)
            assert "<Enqueue" in await ask(line.webhook, "CA1")
            assert "<Enqueue" in await ask(other.webhook, "CA2")
            await line.bridge.drain(1.0)
            assert "<Leave" in await ask(f"{here}/voice/wait", "CA1")
            told = await ask(f"{here}/voice/queued", "CA1", QueueResult="leave")
            to = unescape(told.partition("<Redirect>")[2].partition("</Redirect>")[0])
            assert to.startswith(there)
            assert "<Enqueue" in await ask(to, "CA1", CallStatus="in-progress")
            assert "number 1 in line" in await ask(f"{there}/voice/wait", "CA1")
            assert "number 2 in line" in await ask(f"{there}/voice/wait", "CA2")
            # Who hangs up meanwhile leaves the line.
            await ask(f"{here}/voice/queued", "CA1", QueueResult="hangup")
            assert await other.pool.wait("CA2") == 1


@pytest.mark.parametrize("when_busy", ["reject", "queue"])
@pytest.mark.parametrize(
    ("status", "verb"), [("ringing", "<Reject"), ("in-progress", COLD.sorry_words)]
)
@in_virtual_time
async def test_an_answered_call_gets_no_busy_signal(when_busy: Any, status: str, verb: str) -> None:
    """It comes from a bridge that drains; Twilio would end it without a word."""
    settings = dataclasses.replace(COLD, when_busy=when_busy, queue_limit=1)
    async with full_line(QUIET, settings) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        await line.pool.wait("CA1")
        form = {"CallSid": "CA2", "CallStatus": status}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{line.webhook}?sent-on=yes", data=form) as answer,
        ):
            assert verb in await answer.text()
