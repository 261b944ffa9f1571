"""The event loop that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from personaplex_bridge.clock import LoopClock
from personaplex_bridge.simulator import virtual_time
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.simulator.virtual_time import Stalled
from personaplex_bridge.twilio import twiml
from personaplex_bridge.web.hosting import hosted
from tests.virtual import in_virtual_time

HOST = "127.0.0.1"
HOUR_S = 3600.0


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a_week_of_sleep_is_over_at_once() -> None:
    began = time.monotonic()
    await asyncio.sleep(7 * 24 * HOUR_S)
    assert now() == 7 * 24 * HOUR_S
    assert time.monotonic() - began < 1.0


@in_virtual_time
async def test_sleepers_wake_in_order_at_their_times() -> None:
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        woken.append((name, now()))

    async with asyncio.TaskGroup() as group:
        for name, delay_s in (("c", 3.0), ("a", 1.0), ("d", HOUR_S), ("b", 2.0), ("b2", 2.0)):
            group.create_task(sleep(name, delay_s))
    assert woken == [("a", 1.0), ("b", 2.0), ("b2", 2.0), ("c", 3.0), ("d", HOUR_S)]


@in_virtual_time
async def test_computing_takes_no_virtual_time() -> None:
    time.sleep(0.01)  # noqa: ASYNC251 - as long computing would
    await asyncio.sleep(0)
    assert now() == 0.0


@in_virtual_time
async def test_timeouts_are_virtual() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(HOUR_S):
            await asyncio.Event().wait()
    assert now() == HOUR_S
    async with asyncio.timeout(HOUR_S):
        await asyncio.sleep(HOUR_S / 2)
    await asyncio.sleep(1.0)
    assert now() == 1.5 * HOUR_S + 1, "a timer that was cancelled moves nothing"


@in_virtual_time
async def test_the_loop_clock_keeps_a_schedule() -> None:
    clock = LoopClock()
    readings = []
    for frame in range(1, 1001):
        await clock.sleep_until(frame * 0.02)
        readings.append(clock.now())
    assert readings == pytest.approx([frame * 0.02 for frame in range(1, 1001)], abs=1e-9)
    await clock.sleep_until(1.0)
    assert clock.now() == readings[-1], "the past is not waited for"


@in_virtual_time
async def test_time_only_goes_on() -> None:
    readings = []

    async def read_often(step_s: float) -> None:
        for _ in range(200):
            await asyncio.sleep(step_s)
            readings.append(now())

    await asyncio.gather(*(read_often(0.003 + 0.0007 * number) for number in range(5)))
    assert readings == sorted(readings)


def test_a_loop_that_can_only_wait_says_so() -> None:
    async def wait() -> None:
        await asyncio.sleep(5.0)
        await asyncio.Event().wait()

    with pytest.raises(Stalled, match="at 5 virtual seconds"):
        virtual_time.run(wait(), stall_s=0.05)


@in_virtual_time
async def test_a_thread_at_work_is_waited_for_in_real_time() -> None:
    async with asyncio.timeout(HOUR_S):
        await asyncio.to_thread(time.sleep, 0.05)
    assert now() < 30.0
    await asyncio.sleep(HOUR_S)
    assert now() >= HOUR_S


@in_virtual_time
async def test_no_time_passes_while_the_kernel_moves_bytes() -> None:
    """Far more than the sockets' buffers hold."""
    total = 3_000_000
    server = await asyncio.start_server(_discard_then_tell, HOST, 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(0.001):
        writer.write(b"x" * total)
        await writer.drain()
        writer.write_eof()
        assert int(await reader.read()) == total
    assert now() == 0.0
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def _discard_then_tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    total = 0
    while data := await reader.read(1000):
        total += len(data)
    writer.write(str(total).encode())
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def slow_echo(delay_s: float) -> AsyncIterator[str]:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        server = web.WebSocketResponse()
        await server.prepare(request)
        async for message in server:
            await asyncio.sleep(delay_s)
            await server.send_str(message.data)
        return server

    app = web.Application()
    app.router.add_get("/", echo)
    async with hosted(app, HOST, 0) as port:
        yield f"ws://{HOST}:{port}/"


@in_virtual_time
async def test_an_aiohttp_client_and_server_in_virtual_hours() -> None:
    async with (
        slow_echo(HOUR_S) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(url) as client,
    ):
        for number in range(1, 25):
            await client.send_str(f"hour {number}")
            assert await client.receive_str() == f"hour {number}"
            assert now() == number * HOUR_S


@in_virtual_time
async def test_a_websockets_client_with_its_keepalive() -> None:
    """Pings every 20 s, and pongs due within 20 s, while nothing else happens for an hour."""

    async def answer_late(server: ServerConnection) -> None:
        await asyncio.sleep(HOUR_S)
        await server.send("an hour")

    async with serve(answer_late, HOST, 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://{HOST}:{port}/", proxy=None) as client:
            assert await client.recv() == "an hour"
            assert now() == HOUR_S


async def _a_call() -> tuple[PhoneReport, list[float]]:
    """A phone on a bridge of a few lines, which answers every fourth frame with four."""
    arrived: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        url = f"ws://{request.host}/stream"
        return web.Response(text=twiml.connect_stream(url, {}), content_type="text/xml")

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = ""
        async for message in socket:
            event = message.json()
            sid = event.get("streamSid", sid)
            if event["event"] == "media":
                arrived.append(now())
                if len(arrived) % 4 == 0:
                    media = {"payload": "AAAA" * 213 + "AA=="}
                    await socket.send_json({"event": "media", "streamSid": sid, "media": media})
        return socket

    app = web.Application()
    app.router.add_post("/", answer)
    app.router.add_get("/stream", stream)
    async with hosted(app, HOST, 0) as port:
        plan = CallPlan(f"http://{HOST}:{port}/", b"", hang_up_after_s=60.0)
        report = await PhoneCall(plan, LoopClock()).run()
    return report, arrived


def test_a_phone_call_of_a_minute() -> None:
    began = time.monotonic()
    report, arrived = virtual_time.run(_a_call())
    assert time.monotonic() - began < 20.0
    assert report.problems == []
    assert report.frames_sent == 3000
    assert report.sent_at == pytest.approx([frame * 0.02 for frame in range(3000)], abs=1e-6)
    assert arrived == report.sent_at, "what was sent arrives in no time"
    assert report.media_at == arrived[3::4]


def test_a_call_goes_the_same_way_each_time() -> None:
    (first, first_arrived), (second, second_arrived) = (
        virtual_time.run(_a_call()),
        virtual_time.run(_a_call()),
    )
    assert first_arrived == second_arrived
    assert (first.sent_at, first.media_at) == (second.sent_at, second.media_at)
    assert first.heard == second.heard
