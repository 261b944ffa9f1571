"""A bridge on real sockets between stand-ins, and raw peers that may misbehave."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import aiohttp
from aiohttp import ClientWebSocketResponse
from websockets.asyncio.server import ServerConnection, serve

from personaplex_bridge.clock import SYSTEM_CLOCK, Clock, ScaledClock
from personaplex_bridge.config import CHAT_PATH, Settings
from personaplex_bridge.hosting import hosted
from personaplex_bridge.personas import Catalogue, load_catalogue
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.record import CallRecord
from personaplex_bridge.server import STREAM_PATH, WEBHOOK_PATH, Bridge
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall, PhoneReport
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.sound import read_as_mulaw
from personaplex_bridge.twilio import inbound

HOST = "127.0.0.1"
STREAM_SID, CALL_SID, ACCOUNT_SID = "MZ" + "1" * 32, "CA" + "2" * 32, "AC" + "3" * 32
FAST = ScaledClock(3.0)
"""Phones and models three times as fast as real ones."""

CUSHION_MS = 900
"""A prompt so long that what is said meanwhile (the backlog keeps 1,000 ms) stays in the phone's
playout buffer: a busy test machine then makes no gap in what is heard.
"""


def speech() -> bytes:
    """The shipped caller, mu-law."""
    path = resources.files("personaplex_bridge").joinpath("data/caller.flac")
    return read_as_mulaw(Path(str(path)))


@dataclass
class Line:
    """A running bridge and what is known of it."""

    port: int
    bridge: Bridge
    records: asyncio.Queue[CallRecord] = field(default_factory=asyncio.Queue)

    @property
    def webhook(self) -> str:
        return f"http://{HOST}:{self.port}{WEBHOOK_PATH}"

    @property
    def stream_url(self) -> str:
        return f"ws://{HOST}:{self.port}{STREAM_PATH}"

    async def record(self) -> CallRecord:
        """The record of the next call that ends; it has three seconds to."""
        return await asyncio.wait_for(self.records.get(), 3.0)

    async def call(self, plan: CallPlan, clock: Clock = FAST) -> PhoneReport:
        """A whole call."""
        return await PhoneCall(dataclasses.replace(plan, webhook_url=self.webhook), clock).run()


@asynccontextmanager
async def bridge_to(
    server: str, settings: Settings | None = None, catalogue: Catalogue | None = None
) -> AsyncIterator[Line]:
    """A bridge to the model server at a URL."""
    settings = settings or Settings()
    records: asyncio.Queue[CallRecord] = asyncio.Queue()
    pool = ModelPool(server, settings.personaplex_capacity, tls_verify=False)
    bridge = Bridge(settings, catalogue or load_catalogue(), pool, records.put_nowait)
    async with hosted(bridge.application(), HOST, 0) as port:
        yield Line(port, bridge, records)


@asynccontextmanager
async def standin(
    options: ModelOptions, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[tuple[str, ModelServer]]:
    """The model's stand-in and its URL."""
    model = ModelServer(options, clock)
    async with hosted(model.application(), HOST, 0) as port:
        yield f"ws://{HOST}:{port}{CHAT_PATH}", model


@asynccontextmanager
async def full_line(
    options: ModelOptions, settings: Settings | None = None, clock: Clock = FAST
) -> AsyncIterator[tuple[Line, ModelServer]]:
    """A bridge to the model's stand-in."""
    async with standin(options, clock) as (url, model), bridge_to(url, settings) as line:
        yield line, model


@asynccontextmanager
async def raw_model(
    behave: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    """A model server that does what a test says. Its URL."""
    async with serve(behave, HOST, 0, ping_interval=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://{HOST}:{port}{CHAT_PATH}"


@asynccontextmanager
async def raw_twilio(
    line: Line, *, start: bool = True, parameters: dict[str, str] | None = None
) -> AsyncIterator[ClientWebSocketResponse]:
    """A media socket that sends what a test says."""
    async with aiohttp.ClientSession() as http, http.ws_connect(line.stream_url) as socket:
        if start:
            await socket.send_str(inbound.serialize(inbound.Connected()))
            event = inbound.Start(
                STREAM_SID, CALL_SID, ACCOUNT_SID, custom_parameters=parameters or {}
            )
            await socket.send_str(inbound.serialize(event))
        yield socket


def media(number: int, payload: bytes = b"\xff" * 160) -> str:
    """The `number`th media frame, from 0."""
    return inbound.serialize(
        inbound.Media(STREAM_SID, number + 2, number + 1, number * 20, payload)
    )


def stop() -> str:
    return inbound.serialize(inbound.Stop(STREAM_SID, 9999, CALL_SID, ACCOUNT_SID))


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait until something is so; fail if it doesn't come."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
