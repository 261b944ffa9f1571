"""When either side ends, the other is closed: properly, at once, with the right code.

In virtual time, so that every deadline is the one that is shipped; one is in real time, because
"at once" is meant by the clock on the wall.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from personaplex_bridge.conversation import MODEL_SILENCE_S
from personaplex_bridge.errors import StreamError
from personaplex_bridge.logs import CallLog
from personaplex_bridge.record import EndedBy
from personaplex_bridge.recovery import LAST_ATTEMPT_S, MAX_RECOVERIES, RECOVER_S
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.twilio import inbound, outbound
from personaplex_bridge.twilio.stream import MediaStream
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import (
    CALL_SID,
    CLOCK,
    COLD,
    HOST,
    STREAM_SID,
    Line,
    Peer,
    Voice,
    bridge_to,
    full_line,
    in_conversation,
    raw_model,
    raw_twilio,
    stop,
    until,
)
from tests.virtual import in_virtual_time

QUIET = ModelOptions("silence", prompt_ms=0, step_ms=0)
NEVER_READY = ModelOptions("silence", prompt_ms=3_600_000)
AT_ONCE_S = 0.05


async def test_the_caller_hangs_up() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        began = time.monotonic()
        await peer.send(stop())
        assert await peer.close_code() == 1000
        record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000")
        assert time.monotonic() - began < 1.0
    assert record.ending is not None
    assert record.ending.reason == "the caller hung up"


@in_virtual_time
async def test_twilio_closes_without_a_stop() -> None:
    async with full_line(QUIET) as (line, model):
        async with raw_twilio(line) as peer:
            await in_conversation(line, peer, model)
        record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000", AT_ONCE_S)
    assert record.ending is not None
    assert record.ending.reason == "Twilio closed without a stop"


@in_virtual_time
async def test_twilio_vanishes() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        peer.cut()
        record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000", AT_ONCE_S)
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER


@in_virtual_time
async def test_the_caller_hangs_up_before_the_handshake() -> None:
    async with full_line(NEVER_READY) as (line, model):
        async with raw_twilio(line) as peer:
            await until(lambda: bool(model.sessions))
            await peer.send(stop())
            assert await peer.close_code(AT_ONCE_S) == 1000
            record = await line.record()
        await until(lambda: model.sessions[0].ended == "left before the handshake", 0.1)
    assert record.handshake_s is None


@in_virtual_time
async def test_the_caller_hangs_up_while_the_server_waits_for_its_lock() -> None:
    """Another bridge holds the server: it answers neither pings nor a close."""
    settings = dataclasses.replace(COLD, personaplex_capacity=2)
    async with full_line(QUIET, settings) as (line, model), raw_twilio(line) as first:
        await in_conversation(line, first, model)
        async with raw_twilio(line, call_sid="CA" + "9" * 32) as second:
            await until(lambda: len(model.sessions) == 2)
            await second.send(stop())
            assert await second.close_code(AT_ONCE_S) == 1000
            assert (await line.record()).handshake_s is None
        await first.send(stop())
        await line.record()


async def _say_hello_and(connection: ServerConnection) -> None:
    await connection.send(b"\x00")
    await connection.recv()


async def closes_1000(connection: ServerConnection) -> None:
    await _say_hello_and(connection)
    await connection.close(1000)


async def dies(connection: ServerConnection) -> None:
    await _say_hello_and(connection)
    connection.transport.abort()


async def dies_at_once(connection: ServerConnection) -> None:
    connection.transport.abort()


async def closes_before_the_handshake(connection: ServerConnection) -> None:
    await connection.close(1000)


async def sends_five_megabytes(connection: ServerConnection) -> None:
    await _say_hello_and(connection)
    await connection.send(b"\x01" + bytes(5 << 20))
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (closes_1000, "code 1000"),
        (dies, "code 1006: 'connection lost'"),
        (dies_at_once, 'code 1006: "before its handshake'),
        (closes_before_the_handshake, "code 1000"),
        (sends_five_megabytes, "code 1009"),
    ],
)
@in_virtual_time
async def test_the_model_ends(
    behave: Callable[[ServerConnection], Awaitable[None]], reason: str
) -> None:
    """Again and again: there is no other server, and in the end the call is given up."""
    async with raw_model(behave) as url, bridge_to(url) as line:
        code, told = await _ending_of_a_call(line, RECOVER_S + 1)
    assert code == 1011
    assert reason in told


async def _ending_of_a_call(line: Line, within_s: float = AT_ONCE_S) -> tuple[int | None, str]:
    """Close code and reason of a call that the model's side ends, its caller talking on."""
    async with raw_twilio(line) as peer:
        speaking = asyncio.create_task(_speak_on(peer.speak))
        code = await peer.close_code(within_s)
        await speaking
        record = await line.record()
    assert record.ending is not None
    assert record.ending.by is EndedBy.MODEL
    return code, record.ending.reason


async def _speak_on(speak: Callable[[int], Awaitable[None]]) -> None:
    with contextlib.suppress(ConnectionError):  # until the socket is closed
        await speak(100_000)


@in_virtual_time
async def test_no_model_server_is_there() -> None:
    async with bridge_to(f"ws://{HOST}:9/api/chat") as line:
        began = CLOCK.now()
        code, reason = await _ending_of_a_call(line, RECOVER_S + 1)
        assert CLOCK.now() - began == pytest.approx(RECOVER_S, abs=1.0)
    assert code == 1011
    assert reason.startswith(f"no connection to ws://{HOST}:9/api/chat")


@in_virtual_time
async def test_the_server_is_no_websocket() -> None:
    async with (
        hosted(web.Application(), HOST, 0) as port,
        bridge_to(f"ws://{HOST}:{port}/api/chat") as line,
    ):
        code, reason = await _ending_of_a_call(line, RECOVER_S + 1)
    assert code == 1011
    assert "404" in reason


@in_virtual_time
async def test_the_server_speaks_no_tls() -> None:
    async with (
        hosted(web.Application(), HOST, 0) as port,
        bridge_to(f"wss://{HOST}:{port}/api/chat") as line,
    ):
        code, reason = await _ending_of_a_call(line, RECOVER_S + 1)
    assert code == 1011
    assert "SSL" in reason


@in_virtual_time
async def test_no_handshake_in_time() -> None:
    async with full_line(NEVER_READY) as (line, _):
        began = CLOCK.now()
        code, reason = await _ending_of_a_call(line, 60.0)
        patience_s = 30.0 + LAST_ATTEMPT_S
        assert CLOCK.now() - began == pytest.approx(patience_s, abs=AT_ONCE_S)
    assert code == 1011
    assert reason == "no handshake within 10 s"


@pytest.mark.parametrize("call_sid", ["CA" + "9" * 32, CALL_SID, ""])
@in_virtual_time
async def test_every_line_is_taken_when_the_stream_comes(call_sid: str) -> None:
    """Nobody gets the line of a call in progress, not even by naming that call."""
    async with full_line(QUIET) as (line, model), raw_twilio(line) as first:
        await in_conversation(line, first, model)
        async with raw_twilio(line, call_sid=call_sid) as second:
            assert await second.close_code(AT_ONCE_S) == 1013
        record = await line.record()
        assert record.ending is not None
        assert record.ending.reason == "every line to the model servers is taken"
        await first.speak(4)
        await until(lambda: model.sessions[0].frames_out == 3, AT_ONCE_S)
        await first.send(stop())
        await line.record()
    assert len(model.sessions) == 1


@in_virtual_time
async def test_a_webhook_that_names_a_call_in_progress_takes_no_line() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        async with (
            aiohttp.ClientSession() as http,
            http.post(line.webhook, data={"CallSid": CALL_SID}) as answer,
        ):
            assert "<Reject" in await answer.text()
        await peer.speak(1000)  # longer than a seat waits for its stream
        assert (await line.call(CallPlan("", b""))).outcome == "rejected: busy"
        await peer.send(stop())
        record = await line.record()
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER
    assert (len(model.sessions), model.crowded) == (1, 0)


@in_virtual_time
async def test_the_bridge_shuts_down() -> None:
    async with full_line(QUIET) as (line, model):
        async with raw_twilio(line) as peer:
            await in_conversation(line, peer, model)
            closing = asyncio.create_task(line.bridge.end_calls())
            assert await peer.close_code(AT_ONCE_S) == 1001
            await closing
            record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000", AT_ONCE_S)
    assert record.ending is not None
    assert record.ending.by is EndedBy.BRIDGE


@in_virtual_time
async def test_after_a_failure_twilio_goes_on_with_the_twiml() -> None:
    async with raw_model(closes_1000) as url, bridge_to(url) as line:
        report = await line.call(CallPlan("", b"", hang_up_after_s=20.0))
        await line.record()
    assert report.outcome == "the server closed the stream with 1011, then hung up by TwiML"


@in_virtual_time
async def test_the_stream_never_starts() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line, start=False) as peer:
        began = CLOCK.now()
        assert await peer.close_code(20.0) == 1002
        assert CLOCK.now() - began == pytest.approx(10.0, abs=AT_ONCE_S)
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "no start message within 10 s"
    assert not model.sessions


@in_virtual_time
async def test_a_caller_whose_socket_falls_silent_is_left() -> None:
    """A half-open connection: nothing comes, nothing closes."""
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        await in_conversation(line, peer, model)
        assert await peer.close_code(70.0) == 1002
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "no media for 60 s"
    assert record.duration_s == pytest.approx(60.0, abs=0.3)
    # Meanwhile the model's clock went on, and nothing piled up.
    assert record.filled_frames == pytest.approx(record.duration_s * 50, rel=0.02)


@in_virtual_time
async def test_a_model_that_falls_silent_is_left() -> None:
    async def listens_only(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        async for _ in connection:
            pass

    async with raw_model(listens_only) as url, bridge_to(url) as line:
        began = CLOCK.now()
        code, reason = await _ending_of_a_call(line, 60.0)
        lines = 1 + MAX_RECOVERIES
        assert CLOCK.now() - began == pytest.approx(lines * MODEL_SILENCE_S, abs=lines * 0.6)
    assert code == 1011
    assert reason == f"the model has said nothing for {MODEL_SILENCE_S:g} s"


@in_virtual_time
async def test_a_model_that_answers_no_pings_is_left() -> None:
    """The model speaks on, but reads nothing any more."""

    connections = 0

    async def never_reads(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await dies_at_once(connection)
            return
        voice = Voice()
        await connection.send(b"\x00")
        connection.transport.pause_reading()
        for page in voice.headers:
            await connection.send(b"\x01" + page)
        for _ in range(60):
            await connection.send(b"\x01" + voice.page())
            await asyncio.sleep(1.0)
        connection.transport.abort()

    async with raw_model(never_reads) as url, bridge_to(url) as line, raw_twilio(line) as peer:
        speaking = asyncio.create_task(_speak_on(peer.speak))
        assert await peer.close_code(50.0) == 1011
        await speaking
        record = await line.record()
    (failure,) = record.failures
    assert failure.at_s == pytest.approx(40.0, abs=AT_ONCE_S)
    assert "no pong within 20 s" in failure.reason
    assert failure.gone_s is None


async def talks_without_end(connection: ServerConnection) -> None:
    """Much faster than anybody could listen."""
    voice = Voice()
    await connection.send(b"\x00")
    for page in voice.headers:
        await connection.send(b"\x01" + page)
    with contextlib.suppress(ConnectionClosed):  # it talks until it is hung up on
        while True:
            await connection.send(b"\x01" + voice.page())
            await asyncio.sleep(0.01)


async def _play(peer: Peer, marks: int) -> int:
    """Be a phone until so many marks were echoed; how many frames have come."""
    frames, end_s = 0, 0.0
    while marks:
        match outbound.parse(await peer.socket.receive_str()):
            case outbound.PlayMedia(payload=payload):
                frames += len(payload) // 160
                end_s = max(end_s, CLOCK.now()) + len(payload) / 8000
            case outbound.SendMark(name=name):
                await CLOCK.sleep_until(end_s)
                await peer.send(inbound.serialize(inbound.Mark(STREAM_SID, 1, name)))
                marks -= 1
    return frames


@pytest.mark.parametrize(("echoes", "most_ms"), [(0, 1600), (5, 600)])
@in_virtual_time
async def test_a_twilio_that_reads_and_echoes_nothing_is_sent_little(
    echoes: int, most_ms: int
) -> None:
    """The next mark isn't back when it should be: nothing more leaves. (How long the first may
    take isn't known yet; it is given a second.) What can't leave is forgotten here, and the call
    ends as others do.
    """
    async with (
        raw_model(talks_without_end) as url,
        bridge_to(url) as line,
        raw_twilio(line) as peer,
    ):
        speaking = asyncio.create_task(_speak_on(peer.speak))
        heard_frames = await _play(peer, echoes)
        await asyncio.sleep(30.0)
        speaking.cancel()
        await peer.send(stop())
        assert await peer.close_code(AT_ONCE_S) == 1000
        record = await line.record()
    assert 0 < (record.downlink_frames - heard_frames) * 20 <= most_ms
    assert record.unplayed_frames == 50, "DOWNLINK_BACKLOG_MS"
    assert record.ending is not None
    assert record.ending.reason == "the caller hung up"


@asynccontextmanager
async def _mute_client(port: int) -> AsyncIterator[None]:
    """A WebSocket client that reads the answer to its upgrade, and then nothing at all."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=1024)
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n"
    request += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    writer.write(f"{request}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):  # the other side may have aborted
            await writer.wait_closed()


@in_virtual_time
async def test_a_twilio_whose_socket_is_blocked_is_left() -> None:
    """Flow control sends little, so it takes a sender without any to come so far."""
    told: list[str] = []

    async def play_without_end(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        stream = MediaStream(socket, request.transport, CallLog(1))
        try:
            while True:
                await stream.play(b"\xff" * 64_000)
        except StreamError as error:
            told.append(f"{error} after {CLOCK.now() - began:.0f} s")
        request.transport.abort()
        return socket

    app = web.Application()
    app.router.add_get("/", play_without_end)
    async with hosted(app, HOST, 0) as port:
        began = CLOCK.now()
        async with _mute_client(port):
            await until(lambda: bool(told), 20.0)
    assert told == ["Twilio has read nothing for 10 s after 10 s"]
