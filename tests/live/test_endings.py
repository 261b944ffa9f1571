"""When either side ends, the other is closed: properly, within a second, with the right code."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head
from personaplex_bridge.config import Settings
from personaplex_bridge.hosting import hosted
from personaplex_bridge.record import EndedBy
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.twilio import inbound
from tests.live.harness import (
    ACCOUNT_SID,
    CALL_SID,
    HOST,
    STREAM_SID,
    Line,
    bridge_to,
    full_line,
    media,
    raw_model,
    raw_twilio,
    stop,
    until,
)

QUIET = ModelOptions("silence", prompt_ms=0, step_ms=0)


async def close_code(socket: ClientWebSocketResponse) -> int | None:
    """The code the bridge closes with."""
    async with asyncio.timeout(3.0):
        while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
            pass
    return socket.close_code


async def speak(socket: ClientWebSocketResponse) -> None:
    """Frame after frame, until the socket is closed."""
    with contextlib.suppress(ConnectionError):
        for number in range(1000):
            await socket.send_str(media(number))
            await asyncio.sleep(0.01)


async def talk(socket: ClientWebSocketResponse, frames: int = 8) -> None:
    for number in range(frames):
        await socket.send_str(media(number))


async def test_the_caller_hangs_up() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as socket:
        await talk(socket)
        await until(lambda: bool(model.sessions) and model.sessions[0].frames_out == 2)
        began = time.monotonic()
        await socket.send_str(stop())
        assert await close_code(socket) == 1000
        record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000")
        assert time.monotonic() - began < 1.0
    assert record.ending is not None
    assert record.ending.reason == "the caller hung up"


async def test_twilio_closes_without_a_stop() -> None:
    async with full_line(QUIET) as (line, model):
        async with raw_twilio(line) as socket:
            await talk(socket)
            await until(lambda: bool(model.sessions) and model.sessions[0].frames_out == 2)
        record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000")
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER


async def test_twilio_vanishes() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as socket:
        await talk(socket)
        await until(lambda: bool(model.sessions) and model.sessions[0].frames_out == 2)
        transport = socket.get_extra_info("socket")
        assert transport is not None
        transport.shutdown(2)
        record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000")
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER


async def test_the_caller_hangs_up_before_the_handshake() -> None:
    async with full_line(ModelOptions("silence", prompt_ms=60_000)) as (line, model):
        async with raw_twilio(line) as socket:
            await until(lambda: bool(model.sessions))
            await socket.send_str(stop())
            assert await close_code(socket) == 1000
            record = await line.record()
        await until(lambda: model.sessions[0].ended == "left before the handshake")
    assert record.handshake_s is None


async def test_the_caller_hangs_up_while_the_server_waits_for_its_lock() -> None:
    """Another bridge holds the server: it answers neither pings nor a close."""
    settings = Settings(personaplex_capacity=2)
    async with full_line(QUIET, settings) as (line, model), raw_twilio(line) as first:
        await talk(first)
        await until(lambda: bool(model.sessions) and model.sessions[0].frames_out == 2)
        async with raw_twilio(line) as second:
            await until(lambda: len(model.sessions) == 2)
            await second.send_str(stop())
            assert await close_code(second) == 1000
            assert (await line.record()).handshake_s is None
        await first.send_str(stop())
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
    "behave",
    [closes_1000, dies, dies_at_once, closes_before_the_handshake, sends_five_megabytes],
)
async def test_the_model_ends(behave: Callable[[ServerConnection], Awaitable[None]]) -> None:
    async with (
        raw_model(behave) as url,
        bridge_to(url) as line,
        raw_twilio(line) as socket,
    ):
        await talk(socket)
        assert await close_code(socket) == 1011
        record = await line.record()
    assert record.ending is not None
    assert record.ending.by is EndedBy.MODEL


async def _ending_of_a_call(line: Line) -> tuple[int | None, str]:
    async with raw_twilio(line) as socket:
        code = await close_code(socket)
        record = await line.record()
    assert record.ending is not None
    assert record.ending.by is EndedBy.MODEL
    return code, record.ending.reason


async def test_no_model_server_is_there() -> None:
    async with bridge_to(f"ws://{HOST}:9/api/chat") as line:
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert reason.startswith(f"no connection to ws://{HOST}:9/api/chat")


async def test_the_server_is_no_websocket() -> None:
    async with (
        hosted(web.Application(), HOST, 0) as port,
        bridge_to(f"ws://{HOST}:{port}/api/chat") as line,
    ):
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert "404" in reason


async def test_the_server_speaks_no_tls() -> None:
    async with (
        hosted(web.Application(), HOST, 0) as port,
        bridge_to(f"wss://{HOST}:{port}/api/chat") as line,
    ):
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert "SSL" in reason


async def test_no_handshake_in_time() -> None:
    settings = Settings(handshake_timeout_s=0.2)
    async with full_line(ModelOptions("silence", prompt_ms=60_000), settings) as (line, _):
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert reason == "no handshake within 0.2 s"


async def test_every_line_is_taken_when_the_stream_comes() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as first:
        await until(lambda: bool(model.sessions))
        code, _ = await _ending_of_a_call(line)
        assert code == 1013
        await first.send_str(stop())
        await line.record()
    assert len(model.sessions) == 1


async def test_the_bridge_shuts_down() -> None:
    async with full_line(QUIET) as (line, model):
        async with raw_twilio(line) as socket:
            await until(lambda: bool(model.sessions) and model.sessions[0].used is not None)
            began = time.monotonic()
            closing = asyncio.create_task(line.bridge.end_calls())
            assert await close_code(socket) == 1001
            await closing
            assert time.monotonic() - began < 1.0
            record = await line.record()
        await until(lambda: model.sessions[0].ended == "client left with 1000")
    assert record.ending is not None
    assert record.ending.by is EndedBy.BRIDGE


async def test_after_a_failure_twilio_goes_on_with_the_twiml() -> None:
    async with raw_model(closes_1000) as url, bridge_to(url) as line:
        report = await line.call(CallPlan("", b"", hang_up_after_s=20.0))
        await line.record()
    assert report.outcome == "the server closed the stream with 1011, then hung up by TwiML"


async def test_the_stream_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.session.START_TIMEOUT_S", 0.1)
    async with full_line(QUIET) as (line, model), raw_twilio(line, start=False) as socket:
        assert await close_code(socket) == 1002
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "no start message within 0.1 s"
    assert not model.sessions


async def test_a_caller_whose_socket_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open connection: nothing comes, nothing closes."""
    monkeypatch.setattr("personaplex_bridge.session.MEDIA_TIMEOUT_S", 0.1)
    async with full_line(QUIET) as (line, _), raw_twilio(line) as socket:
        await talk(socket)
        assert await close_code(socket) == 1002
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "no media for 0.1 s"


async def test_a_model_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.session.MODEL_SILENCE_S", 0.2)

    async def listens_only(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        async for _ in connection:
            pass

    async with raw_model(listens_only) as url, bridge_to(url) as line, raw_twilio(line) as socket:
        speaking = asyncio.create_task(speak(socket))
        assert await close_code(socket) == 1011
        await speaking
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "the model has said nothing for 0.2 s"


async def test_a_twilio_socket_that_reads_no_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.twilio.stream.SEND_TIMEOUT_S", 0.2)
    monkeypatch.setattr("personaplex_bridge.session.MAX_PLAYOUT_S", 1e9)

    async def talks_without_end(connection: ServerConnection) -> None:
        writer = OggWriter(1)
        packet = behaviours.make("tone").step(np.zeros(1920, np.int16)).packet
        await connection.send(b"\x00")
        await connection.send(b"\x01" + writer.page([opus_head(0, 24_000)], 0))
        page = b"\x01" + writer.page([packet] * 100, 0)
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(page)

    async with raw_model(talks_without_end) as url, bridge_to(url) as line:
        reader, writer = await asyncio.open_connection(HOST, line.port)
        request = f"GET /voice/stream HTTP/1.1\r\nHost: {HOST}\r\n"
        request += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(f"{request}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        start = inbound.serialize(inbound.Start(STREAM_SID, CALL_SID, ACCOUNT_SID)).encode()
        writer.write(b"\x81\xfe" + len(start).to_bytes(2, "big") + bytes(4) + start)
        record = await asyncio.wait_for(line.records.get(), 20.0)
        writer.close()
        await writer.wait_closed()
    assert record.ending is not None
    assert record.ending.reason == "Twilio has read nothing for 0.2 s"


async def test_an_error_before_the_handshake_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def refuses(connection: ServerConnection) -> None:
        await connection.send(b"\x05out of memory\nINFO forged line")
        await connection.close(1011, "\u00e9" * 60)

    async with raw_model(refuses) as url, bridge_to(url) as line:
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert "\u00e9" in reason
    assert "the model server reports: 'out of memory\\nINFO forged line'" in caplog.messages[0]


async def test_a_host_that_is_none() -> None:
    async with bridge_to("ws://a..b:8998/api/chat") as line:
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert "not a usable address" in reason


async def test_a_model_that_answers_no_pings_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.personaplex.client.PING_INTERVAL_S", 0.05)
    monkeypatch.setattr("personaplex_bridge.personaplex.client.PONG_TIMEOUT_S", 0.1)

    async def never_reads(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        connection.transport.pause_reading()
        await asyncio.sleep(1.0)
        connection.transport.abort()

    async with raw_model(never_reads) as url, bridge_to(url) as line:
        code, reason = await _ending_of_a_call(line)
    assert code == 1011
    assert "no pong within 0.1 s" in reason
