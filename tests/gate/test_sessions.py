"""Sessions: what passes, how they end, and that the model's place is free after each."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from personaplex_bridge.gate import model as model_side
from personaplex_bridge.gate.relay import (
    MAX_CLIENT_MESSAGE_BYTES,
    MAX_MODEL_MESSAGE_BYTES,
    PING_INTERVAL_S,
    PONG_TIMEOUT_S,
)
from personaplex_bridge.simulator.model import ModelOptions
from tests.gate.harness import (
    AUTHORIZED,
    SETTINGS,
    Caller,
    RunningGate,
    client,
    close_of,
    gate_and_model,
    gate_to,
    raw_client,
    refused,
)
from tests.live.harness import CLOCK, HOST, raw_model, until
from tests.logged import logged
from tests.virtual import in_virtual_time

QUICK = ModelOptions("tone", prompt_ms=100, step_ms=0)
SLOW_PROMPT = ModelOptions("tone", prompt_ms=5000, step_ms=0)


@asynccontextmanager
async def gate_and_raw_model(
    behave: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[RunningGate]:
    """A model server that does what a test says, once it is found to be up."""
    async with raw_model(behave) as url, gate_to(url) as gate:
        yield gate


async def ready(connection: ClientConnection) -> None:
    assert await connection.recv() == b"\x00"


# What passes


async def test_every_message_passes_both_ways_as_it_is() -> None:
    there: list[str | bytes] = []
    back: list[str | bytes] = [b"\x00", b"", b"\x02 word", "text", b"\x05oops", b"\xff" * 300]
    back.append(b"\x01" + os.urandom(MAX_MODEL_MESSAGE_BYTES - 1))

    async def behave(server: ServerConnection) -> None:
        for message in back:
            await server.send(message)
        there.extend([message async for message in server])

    sent: list[Any] = [
        b"\x01abc",
        b"",
        "text \u00fc",
        b"\x03",
        b"\x01" + os.urandom(100_000),
        [b"a", b"b"],
    ]
    async with gate_and_raw_model(behave) as gate, client(gate) as connection:
        assert [await connection.recv() for _ in back] == back
        for message in sent:
            await connection.send(message)
        await connection.close()
        await until(lambda: len(there) == len(sent))
    assert there == [*sent[:-1], b"ab"], "fragments are one message"


async def test_a_whole_conversation_with_its_step_times() -> None:
    options = ModelOptions("tone", prompt_ms=0, step_ms=30)
    async with gate_and_model(options) as (gate, model):
        async with client(gate) as connection:
            caller = Caller(connection)
            await caller.shake_hands()
            await caller.talk(12, pace_s=0.02)
            status, body = await gate.health(**AUTHORIZED)
            assert (status, body["status"], body["sessions_served"]) == (200, "busy", 1)
            assert body["step_ms"]["steps"] == 12
            assert body["step_ms"]["median"] >= 29
            assert body["seconds_since_audio"] < 30
        await gate.until_free()
        assert model.sessions[0].frames_out == 12
        assert (await gate.health())[1]["status"] == "idle"


@in_virtual_time
async def test_what_comes_before_the_handshake_does_not_reach_the_model() -> None:
    async with gate_and_model(SLOW_PROMPT) as (gate, model):
        async with client(gate) as connection:
            for _ in range(20):
                await connection.send(b"\x01nonsense")
            caller = Caller(connection)
            await caller.shake_hands()
            await caller.talk(2)
        await gate.until_free()
    assert model.sessions[0].eaten == 0
    assert model.sessions[0].frames_out == 2


@in_virtual_time
async def test_who_leaves_after_talking_too_early_makes_room_at_once() -> None:
    async with gate_and_model(SLOW_PROMPT) as (gate, model):
        async with client(gate) as connection:
            await connection.send(b"\x01nonsense")
            await asyncio.sleep(0.5)
        left_s = CLOCK.now()
        async with client(gate) as connection:
            await ready(connection)
        assert CLOCK.now() - left_s == pytest.approx(5.0, abs=0.5)
        assert model.crowded == 0


# Endings of the client


@pytest.mark.parametrize("options", [SLOW_PROMPT, QUICK], ids=["before", "after"])
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@in_virtual_time
async def test_a_client_that_leaves_frees_the_place(options: ModelOptions, how: str) -> None:
    async with gate_and_model(options) as (gate, model):
        for _ in range(3):
            async with raw_client(gate) as raw:
                await asyncio.sleep(1.0)
                assert gate.gate.is_busy
                if how == "close":
                    raw.send(b"\x88\x82\0\0\0\0\x03\xe8")
                elif how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    raw.close()
                else:
                    raw.shutdown(socket.SHUT_WR)
                await gate.until_free()
        assert model.crowded == 0
        assert [session.ended != "running" for session in model.sessions] == [True] * 3


@pytest.mark.parametrize("options", [SLOW_PROMPT, QUICK], ids=["before", "after"])
@in_virtual_time
async def test_a_client_that_reconnects_at_once_is_not_told_busy(options: ModelOptions) -> None:
    async with gate_and_model(options) as (gate, model):
        for _ in range(5):
            async with client(gate, close_timeout=0.01) as connection:
                await asyncio.sleep(0.3)
            del connection
        async with client(gate) as connection:
            await ready(connection)
        await gate.until_free()
        assert model.crowded == 0


@pytest.mark.parametrize("prompt_ms", [100, 200_000], ids=["after", "before"])
@in_virtual_time
async def test_a_silent_client_is_found_by_its_missing_pong(prompt_ms: int) -> None:
    """It reads nothing either."""
    async with gate_and_model(ModelOptions("tone", prompt_ms=prompt_ms)) as (gate, model):
        async with raw_client(gate):
            began = CLOCK.now()
            with logged() as log:
                async with asyncio.timeout(100):
                    while gate.gate.is_busy:
                        await asyncio.sleep(0.1)
            waited = CLOCK.now() - began
            assert waited == pytest.approx(PING_INTERVAL_S + PONG_TIMEOUT_S, abs=2)
            assert "no pong of the client within 20 s" in log.getvalue()
        assert model.sessions[0].ended != "running"


@in_virtual_time
async def test_a_client_that_answers_pings_may_wait_long() -> None:
    options = ModelOptions("tone", prompt_ms=200_000)
    async with gate_and_model(options) as (gate, _), client(gate):
        await asyncio.sleep(100)
        assert gate.gate.is_busy


def _connections() -> list[tuple[Any, Any]]:
    """Both ends' addresses of this process's connections that nobody has closed."""
    found = psutil.Process().net_connections("tcp")
    return [(each.laddr, each.raddr) for each in found if each.status == "ESTABLISHED"]


async def test_a_client_that_stops_reading_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.gate.relay.SEND_TIMEOUT_S", 0.2)

    async def behave(server: ServerConnection) -> None:
        await server.send(b"\x00")
        with contextlib.suppress(ConnectionClosed):
            while True:
                await server.send(b"\x01" + bytes(60_000))

    with logged() as log:
        async with gate_and_raw_model(behave) as gate, raw_client(gate) as raw:
            held = (HOST, gate.port), raw.getsockname()
            assert held in _connections()
            await gate.until_free()
            await until(lambda: held not in _connections())
    assert "client reads nothing" in log.getvalue()


async def test_pings_of_the_client_are_answered_before_and_after_the_handshake() -> None:
    options = ModelOptions("tone", prompt_ms=500)
    async with gate_and_model(options) as (gate, _), client(gate) as connection:
        await asyncio.wait_for(await connection.ping(), 10)
        await ready(connection)
        await asyncio.wait_for(await connection.ping(), 10)


async def test_a_message_that_is_too_long_ends_the_session() -> None:
    async with gate_and_model(QUICK) as (gate, model):
        async with client(gate) as connection:
            await ready(connection)
            with contextlib.suppress(ConnectionClosed):
                await connection.send(b"\x01" + bytes(MAX_CLIENT_MESSAGE_BYTES))
            assert (await close_of(connection))[0] == 1009
        await gate.until_free()
        assert model.sessions[0].messages_in == 0


# Endings of the model


def _model_that(*, code: int | None, after_handshake: bool) -> Callable[..., Awaitable[None]]:
    async def behave(server: ServerConnection) -> None:
        if after_handshake:
            await server.send(b"\x00")
        if code is None:
            server.transport.abort()
        else:
            await server.close(code, "why")

    return behave


@pytest.mark.parametrize(
    ("code", "after_handshake", "expected", "reason"),
    [
        (1000, True, 1000, "the model closed with 1000"),
        (1000, False, 1000, "the model closed with 1000"),
        (1009, True, 1011, "the model closed with 1009"),
        (None, True, 1011, "the model's connection was lost"),
        (None, False, 1011, "the model's connection was lost before its handshake"),
    ],
)
async def test_the_models_end_is_told(
    code: int | None, after_handshake: bool, expected: int, reason: str
) -> None:
    behave = _model_that(code=code, after_handshake=after_handshake)
    async with gate_and_raw_model(behave) as gate:
        for _ in range(3):
            async with client(gate) as connection:
                assert await close_of(connection) == (expected, reason)
        await gate.until_free()


async def test_a_message_of_the_model_that_is_too_long_is_a_failure() -> None:
    async def behave(server: ServerConnection) -> None:
        await server.send(bytes(MAX_MODEL_MESSAGE_BYTES + 1))
        await server.wait_closed()

    async with gate_and_raw_model(behave) as gate, client(gate) as connection:
        assert await close_of(connection) == (1011, "model sent a message that is too long")


@in_virtual_time
async def test_a_handshake_that_never_comes_ends_the_session() -> None:
    settings = dataclasses.replace(SETTINGS, handshake_timeout_s=30)
    options = ModelOptions(prompt_ms=10**6)
    async with gate_and_model(options, settings) as (gate, _), client(gate) as connection:
        code, reason = await close_of(connection)
    assert code == 1011
    assert reason == "no handshake of the model within 30 s"


@in_virtual_time
async def test_a_model_that_answers_no_ping_ends_the_session() -> None:
    stopped = asyncio.Event()

    async def behave(server: ServerConnection) -> None:
        await server.send(b"\x00")
        server.transport.pause_reading()
        await stopped.wait()
        server.transport.abort()

    async with gate_and_raw_model(behave) as gate:
        async with client(gate) as connection:
            code, reason = await close_of(connection)
            stopped.set()
        assert (code, reason) == (1011, "no pong of the model within 20 s")
        await gate.until_free()


async def test_a_model_that_refuses_the_upgrade() -> None:
    async def refuse(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=418 if "Upgrade" in request.headers else 400)

    app = aiohttp.web.Application()
    app.router.add_get("/api/chat", refuse)
    from personaplex_bridge.web.hosting import hosted

    async with hosted(app, HOST, 0) as port, gate_to(f"ws://{HOST}:{port}") as gate:
        for _ in range(3):
            status, body = await refused(gate)
            assert (status, body["error"]) == (502, "model_refused")
            assert body["detail"] == "the model server answers HTTP 418"
        assert not gate.gate.is_busy


async def test_a_model_that_has_gone_is_refused_and_then_loading() -> None:
    async def behave(server: ServerConnection) -> None:
        await server.wait_closed()

    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(contextlib.AsyncExitStack())
        url = await model.enter_async_context(raw_model(behave))
        gate = await stack.enter_async_context(gate_to(url))
        await model.aclose()
        assert (await refused(gate))[0] == 502
        await until(lambda: str(gate.condition.state).startswith("the model server doesn't"))
        assert (await refused(gate))[0] == 503


@in_virtual_time
async def test_a_model_that_does_not_answer_the_upgrade_is_given_up() -> None:
    connections = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            request = b""
        if b"Upgrade" not in request:
            writer.write(b"HTTP/1.1 400 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, HOST, 0)
    url = f"ws://{HOST}:{server.sockets[0].getsockname()[1]}"
    async with server, gate_to(url) as gate:
        began = CLOCK.now()
        status, body = await refused(gate)
        assert (status, body["error"]) == (502, "model_refused")
        assert CLOCK.now() - began <= model_side.OPEN_TIMEOUT_S + 1
    assert len(connections) >= 2


# The gate's own end


async def test_stopping_ends_the_session_with_1001() -> None:
    async with gate_and_model(QUICK) as (gate, model):
        async with client(gate) as connection:
            await ready(connection)
            stopping = asyncio.create_task(gate.gate.stop())
            assert await close_of(connection) == (1001, "the gate is being stopped")
            await stopping
            assert (await refused(gate))[0] == 503
        assert model.sessions[0].ended != "running"


# A thousand


@in_virtual_time
async def test_a_thousand_connects_and_disconnects_leave_the_gate_as_it_was() -> None:
    """Before the upgrade, during the prompts, in conversation, by a close and by a reset."""
    options = ModelOptions("tone", prompt_ms=20, step_ms=0)
    async with gate_and_model(options) as (gate, model):
        await _one(gate, 2)
        tasks, descriptors = len(asyncio.all_tasks()), psutil.Process().num_fds()
        for number in range(1000):
            await _one(gate, number % 5)
        await gate.until_free()
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: psutil.Process().num_fds() <= descriptors)
        assert model.crowded == 0
        assert all(session.ended != "running" for session in model.sessions)
        assert gate.meters.sessions_served >= 600
        async with client(gate) as connection:
            caller = Caller(connection)
            await caller.shake_hands()
            await caller.talk(3, pace_s=0)


async def _one(gate: RunningGate, how: int) -> None:
    match how:
        case 0:  # before the upgrade
            _, writer = await asyncio.open_connection(HOST, gate.port)
            writer.write(b"GET /api/chat?voice_prompt=NATF2.pt HTTP/1.1\r\nHost: x\r\n")
            writer.transport.abort()
        case 1:  # during the prompts
            async with client(gate, close_timeout=0.05):
                pass
        case 2:  # in conversation
            async with client(gate) as connection:
                caller = Caller(connection)
                await caller.shake_hands()
                await caller.talk(1, pace_s=0)
        case 3:  # a reset in conversation
            async with client(gate) as connection:
                await ready(connection)
                connection.transport.abort()
        case 4:  # a reset right after the upgrade
            async with raw_client(gate) as raw:
                linger = struct.pack("ii", 1, 0)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
