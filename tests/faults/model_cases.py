"""Faults of the model's side."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

import pytest
from aiohttp import web

from personaplex_bridge.config import Settings
from personaplex_bridge.simulator.faults import ModelFaults, Spell
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.plan import CallPlan
from personaplex_bridge.values import CHAT_PATH
from personaplex_bridge.web.hosting import hosted
from tests.faults import models
from tests.faults.models import BEFORE_S, Deed, Models
from tests.faults.scene import Case, Told, call
from tests.live.harness import COLD, HOST, Line, Voice, raw_model, standin

CALL_S = 12.0
IMPATIENT = dataclasses.replace(COLD, handshake_timeout_s=8.0)
DAMAGE_S = BEFORE_S, BEFORE_S + 0.4

Servers = Callable[[], AbstractAsyncContextManager[list[str]]]


def _case(name: str, server: Servers, settings: Settings = COLD, seconds: float = CALL_S) -> Case:
    async def act(line: Line) -> Told:
        return await call(line, CallPlan("", b"", hang_up_after_s=seconds))

    return Case("model", name, act, server, settings)


def _serving(*deeds: Deed) -> Servers:
    @asynccontextmanager
    async def servers() -> AsyncIterator[list[str]]:
        async with raw_model(Models(*deeds)) as url:
            yield [url]

    return servers


def _address(url: str) -> Servers:
    @asynccontextmanager
    async def servers() -> AsyncIterator[list[str]]:
        yield [url]

    return servers


@asynccontextmanager
async def _two_servers() -> AsyncIterator[list[str]]:
    async with (
        raw_model(Models(models.then(models.dies))) as one,
        raw_model(Models(models.answers)) as other,
    ):
        yield [one, other]


@asynccontextmanager
async def _no_answer() -> AsyncIterator[list[str]]:
    """Connections are taken, and nothing is ever said."""

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(take, HOST, 0)
    try:
        yield [f"ws://{HOST}:{server.sockets[0].getsockname()[1]}{CHAT_PATH}"]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


@asynccontextmanager
async def _no_such_name() -> AsyncIterator[list[str]]:
    """Looked up without a thread, in which virtual time would stand still."""

    async def getaddrinfo(host: str, *_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")

    with pytest.MonkeyPatch.context() as patch:
        loop = asyncio.get_running_loop()
        own: Any = loop.getaddrinfo

        async def look_up(host: str, *rest: Any, **more: Any) -> Any:
            unknown = host == "gone.invalid"
            return await (getaddrinfo if unknown else own)(host, *rest, **more)

        patch.setattr(loop, "getaddrinfo", look_up)
        yield [f"ws://gone.invalid{CHAT_PATH}"]


@asynccontextmanager
async def _no_websocket(scheme: str = "ws") -> AsyncIterator[list[str]]:
    async with hosted(web.Application(), HOST, 0) as port:
        yield [f"{scheme}://{HOST}:{port}{CHAT_PATH}"]


@asynccontextmanager
async def _stopping() -> AsyncIterator[list[str]]:
    faults = ModelFaults(pause=(Spell(BEFORE_S, 2.0),))
    async with standin(ModelOptions("tone", prompt_ms=0, step_ms=0, faults=faults)) as (url, _):
        yield [url]


def _page_with_bad_crc(voice: Voice) -> list[bytes | str]:
    page = bytearray(voice.page())
    page[-1] ^= 0xFF
    return [b"\x01" + bytes(page)]


def _corrupt_opus(voice: Voice) -> list[bytes | str]:
    return [b"\x01" + voice.page(b"\xff\xff\xff\xff")]


def _garbage(voice: Voice) -> list[bytes | str]:
    return [b"\x01" + bytes(range(256)), b"\x09?", b"", b"\x01" + voice.page()]


def _text_frames(voice: Voice) -> list[bytes | str]:
    return ["hello", "{}", b"\x01" + voice.page()]


CASES = [
    _case("refuses connections", _address(f"ws://{HOST}:9{CHAT_PATH}")),
    _case("has a name that DNS doesn't know", _no_such_name),
    _case("takes the connection and never answers", _no_answer, seconds=30.0),
    _case("is a web server, but no model", _no_websocket),
    _case("speaks no TLS where it should", lambda: _no_websocket("wss")),
    _case("takes 5 s for its handshake", _serving(models.shakes_hands_after(5.0))),
    _case(
        "is later with its handshake than HANDSHAKE_TIMEOUT (8 s)",
        _serving(models.shakes_hands_after(60.0)),
        IMPATIENT,
        seconds=30.0,
    ),
    _case(
        "dies once while it takes in the prompt",
        _serving(models.dies_in_the_prompt_after(1.0), models.answers),
    ),
    _case("dies whenever it takes in the prompt", _serving(models.dies_in_the_prompt_after(1.0))),
    _case("dies in mid-word", _serving(models.then(models.dies), models.answers)),
    _case("dies in mid-word, and there is another server", _two_servers),
    _case("dies in mid-word, every time", _serving(models.then(models.dies)), seconds=30.0),
    _case(
        "dies in mid-word and is gone",
        _serving(models.then(models.dies), models.aborts),
        seconds=30.0,
    ),
    _case("closes cleanly (1000)", _serving(models.then(models.closes_1000), models.answers)),
    _case(
        "hears and says nothing any more",
        _serving(models.then(models.falls_silent), models.answers),
        seconds=16.0,
    ),
    _case("stops for 2 s, and goes on", _stopping),
    _case(
        "sends garbage among its frames",
        _serving(models.instead(_garbage, from_s=DAMAGE_S[0], to_s=DAMAGE_S[1])),
    ),
    _case(
        "sends text frames among its frames",
        _serving(models.instead(_text_frames, from_s=DAMAGE_S[0], to_s=DAMAGE_S[1])),
    ),
    _case(
        "sends pages with a bad CRC for 0.4 s",
        _serving(models.instead(_page_with_bad_crc, from_s=DAMAGE_S[0], to_s=DAMAGE_S[1])),
    ),
    _case(
        "sends corrupt Opus for 0.4 s",
        _serving(models.instead(_corrupt_opus, from_s=DAMAGE_S[0], to_s=DAMAGE_S[1])),
    ),
    _case(
        "sends a message of 5 MB",
        _serving(models.then(models.sends_five_megabytes), models.answers),
    ),
    _case("floods: ten times as much as can be heard", _serving(models.then(models.floods))),
]
