"""A gate on real sockets before the model's stand-in, and clients that know nothing of either.

Time is the running loop's: virtual in tests that are `in_virtual_time`, the wall's in others.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.clock import Clock
from personaplex_bridge.gate.application import Gate
from personaplex_bridge.gate.condition import Condition
from personaplex_bridge.gate.meters import Meters
from personaplex_bridge.gate.settings import GateSettings
from personaplex_bridge.gate.watching import Watch
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.values import CHAT_PATH
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import CLOCK, HOST, standin, until

Query = Sequence[tuple[str, str]]

TOKEN, OLD_TOKEN = "0123456789abcdef-new", "0123456789abcdef-old"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
PROMPT = "You enjoy having a good conversation."
GOOD = [("voice_prompt", "NATF2.pt"), ("text_prompt", PROMPT)]
SETTINGS = GateSettings(host=HOST, port=0, tokens=(OLD_TOKEN, TOKEN))


@dataclass
class RunningGate:
    """A gate, its port, and what it knows."""

    gate: Gate
    port: int
    condition: Condition
    meters: Meters

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def chat(self) -> str:
        return f"ws://{HOST}:{self.port}{CHAT_PATH}"

    def url(self, query: Query = GOOD) -> str:
        return f"{self.chat}?{urlencode(query)}"

    async def health(self, **headers: str) -> tuple[int, dict[str, Any]]:
        return await get(f"{self.base}/healthz", **headers)

    async def until_free(self) -> None:
        await until(lambda: not self.gate.is_busy)


@asynccontextmanager
async def gate_to(
    model_url: str, settings: GateSettings = SETTINGS, *, is_up: bool = True, clock: Clock = CLOCK
) -> AsyncIterator[RunningGate]:
    """A gate before the model server at `model_url`, found to be up unless `is_up` is False."""
    parts = model_url.replace("ws://", "http://").removesuffix(CHAT_PATH)
    settings = dataclasses.replace(settings, model_url=parts)
    condition, meters = Condition(), Meters(clock)
    gate = Gate(settings, condition, meters)
    watch = Watch(condition, settings.model_url, settings.hf_home, lambda: gate.is_busy)
    gate.on_model_gone = watch.look_now
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch.run())
        try:
            if is_up:
                await condition.settled()
            async with hosted(gate.application(), HOST, 0) as port:
                yield RunningGate(gate, port, condition, meters)
        finally:
            watching.cancel()


@asynccontextmanager
async def gate_and_model(
    options: ModelOptions, settings: GateSettings = SETTINGS
) -> AsyncIterator[tuple[RunningGate, ModelServer]]:
    async with standin(options) as (url, model), gate_to(url, settings) as gate:
        yield gate, model


async def get(url: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a plain GET."""
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


def client(gate: RunningGate, query: Query = GOOD, **options: Any) -> connect:
    """An independent client, with a good token unless it brings headers of its own."""
    defaults: dict[str, Any] = {
        "additional_headers": AUTHORIZED,
        "compression": None,
        "ping_interval": None,
        "close_timeout": 0.5,
        "proxy": None,
    }
    return connect(gate.url(query), **{**defaults, **options})


async def refused(
    gate: RunningGate, query: Query = GOOD, **options: Any
) -> tuple[int, dict[str, Any]]:
    """Status and reason of a connection that is refused before its upgrade."""
    try:
        async with client(gate, query, **options):
            raise AssertionError("let in")
    except InvalidStatus as refusal:
        return refusal.response.status_code, json.loads(refusal.response.body)


async def close_of(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason of its end; 1006 if it has none."""
    try:
        while True:
            await connection.recv()
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


class Caller:
    """Speaks to the model as a bridge does: headers, then a page of 80 ms at a time."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[bytes] = []
        self._uplink = make_uplink("native")

    async def shake_hands(self) -> None:
        assert await self.connection.recv() == b"\x00"
        self.heard = [await self._receive() for _ in range(2)]
        await self.connection.send(b"\x01" + self._uplink.headers())

    async def talk(self, frames: int, pace_s: float = 0.08, tone: bytes = b"\xff") -> None:
        """So many frames of the model, each with its answer."""
        for _ in range(frames):
            for page in self._uplink.feed(tone * 640):
                await self.connection.send(b"\x01" + page)
            self.heard.append(await self._audio())
            await asyncio.sleep(pace_s)

    async def _audio(self) -> bytes:
        while (message := await self._receive())[0] != 1:
            pass
        return message

    async def _receive(self) -> bytes:
        message = await asyncio.wait_for(self.connection.recv(), 10.0)
        assert isinstance(message, bytes)
        return message


@asynccontextmanager
async def raw_client(gate: RunningGate, query: Query = GOOD) -> AsyncIterator[socket.socket]:
    """A bare socket that has its 101, and does nothing by itself from then on."""
    loop = asyncio.get_running_loop()
    request = (
        f"GET {CHAT_PATH}?{urlencode(query)} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    with socket.create_connection((HOST, gate.port)) as raw:
        raw.setblocking(False)
        await loop.sock_sendall(raw, request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await asyncio.wait_for(loop.sock_recv(raw, 1), 10.0)
        assert b" 101 " in answer
        yield raw
