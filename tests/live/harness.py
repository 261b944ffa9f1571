"""A bridge on real sockets between stand-ins, and raw peers that may misbehave.

Time is the running loop's: virtual in tests that are `in_virtual_time`, the wall's in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import aiohttp
import numpy as np
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from websockets.asyncio.server import ServerConnection, serve

from personaplex_bridge.audio import ringback as ringing
from personaplex_bridge.audio.files import read_as_mulaw
from personaplex_bridge.audio.format import TELEPHONE
from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.callers import Callers
from personaplex_bridge.clock import Clock, LoopClock
from personaplex_bridge.config import Settings
from personaplex_bridge.observing import Observer
from personaplex_bridge.personas import Catalogue, load_catalogue
from personaplex_bridge.phone.routes import Phone
from personaplex_bridge.pool import ModelPool, make_pool
from personaplex_bridge.record import CallRecord
from personaplex_bridge.recording.recorder import Recorder
from personaplex_bridge.serve import NO_SOFTPHONE
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.browser import BrowserPhone
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.telemetry import telemetry
from personaplex_bridge.twilio import inbound
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import STREAM_PATH, WEBHOOK_PATH

HOST = "127.0.0.1"
STREAM_SID, CALL_SID, ACCOUNT_SID = "MZ" + "1" * 32, "CA" + "2" * 32, "AC" + "3" * 32
CLOCK = LoopClock()
COLD = Settings(warm_lines=False, when_busy="reject")
"""Connections begin with calls: the model has no session before. Whoever can't be taken gets a busy
signal. All else is as shipped.
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
    pool: ModelPool
    records: asyncio.Queue[CallRecord] = field(default_factory=asyncio.Queue)
    account: TwilioAccount = field(default_factory=TwilioAccount)

    @property
    def webhook(self) -> str:
        return f"http://{HOST}:{self.port}{WEBHOOK_PATH}"

    @property
    def stream_url(self) -> str:
        return f"ws://{HOST}:{self.port}{STREAM_PATH}"

    async def record(self) -> CallRecord:
        """The record of the next call that ends; it has three seconds to."""
        return await asyncio.wait_for(self.records.get(), 3.0)

    async def call(self, plan: CallPlan, clock: Clock = CLOCK) -> PhoneReport:
        """A whole call."""
        plan = dataclasses.replace(plan, webhook_url=self.webhook)
        return await PhoneCall(plan, clock, self.account).run()

    async def browser_call(self, plan: CallPlan) -> PhoneReport:
        """A whole call as the page makes it; the bridge must have a phone."""
        plan = dataclasses.replace(plan, webhook_url=self.webhook)
        return await BrowserPhone(plan, CLOCK).run()


class _Anybody:
    """Lets everybody use the phone."""

    def check(self, request: web.Request) -> None:
        del request


@asynccontextmanager
async def bridge_to(
    server: str | Sequence[str],
    settings: Settings | None = None,
    catalogue: Catalogue | None = None,
    clock: Clock = CLOCK,
    waiting_sound: bytes | None = None,
    recorder: Recorder | None = None,
    callers: Callers | None = None,
    observers: Sequence[Observer] = (),
    watched: bool = False,
    has_phone: bool = False,
) -> AsyncIterator[Line]:
    """A bridge to the model servers at a URL or several; without WARM_LINES no line is warm. If
    `watched`, with the metrics and traces that the settings want; with the phone in the browser, if
    it `has_phone`, for anybody.
    """
    settings = settings or COLD
    catalogue = catalogue or load_catalogue()
    records: asyncio.Queue[CallRecord] = asyncio.Queue()
    waiting_sounds = {TELEPHONE: waiting_sound} if waiting_sound else {}
    if has_phone:
        waiting_sounds |= ringing.waiting_sounds(settings.ringback)
    servers = [server] if isinstance(server, str) else server
    pool = make_pool(
        dataclasses.replace(settings, personaplex_tls_verify=False),
        [ServerAddress(url, settings.personaplex_capacity) for url in servers],
        catalogue.get(settings.persona).role,
    )
    async with contextlib.AsyncExitStack() as stack:
        watch = await stack.enter_async_context(telemetry(settings)) if watched else None
        bridge = Bridge(
            settings,
            catalogue,
            pool,
            records.put_nowait,
            observers=[*observers, *(watch.observers if watch else ())],
            waiting_sounds=waiting_sounds,
            callers=callers,
            recorder=recorder,
            clock=clock,
        )
        app = bridge.application()
        if watch is not None:
            watch.add_to(app, bridge)
        if has_phone:
            calls = bridge.browser_calls
            Phone(_Anybody(), calls, bridge, catalogue, settings, NO_SOFTPHONE).add_to(app)
        async with hosted(app, HOST, 0, settings.max_header_bytes) as port:
            yield Line(port, bridge, pool, records)


@asynccontextmanager
async def standin(
    options: ModelOptions, clock: Clock = CLOCK
) -> AsyncIterator[tuple[str, ModelServer]]:
    """The model's stand-in and its URL."""
    model = ModelServer(options, clock)
    async with hosted(model.application(), HOST, 0) as port:
        yield f"ws://{HOST}:{port}{CHAT_PATH}", model


@asynccontextmanager
async def full_line(
    options: ModelOptions,
    settings: Settings | None = None,
    clock: Clock = CLOCK,
    waiting_sound: bytes | None = None,
    watched: bool = False,
) -> AsyncIterator[tuple[Line, ModelServer]]:
    """A bridge to the model's stand-in."""
    async with (
        standin(options, clock) as (url, model),
        bridge_to(url, settings, clock=clock, waiting_sound=waiting_sound, watched=watched) as line,
    ):
        yield line, model


class Voice:
    """What a raw model says: a tone, one page of 80 ms at a time."""

    def __init__(self) -> None:
        self._writer = OggWriter(42)
        self._packet = behaviours.make("tone").step(np.zeros(1920, np.int16)).packet
        self._position = 0
        self.headers = [
            self._writer.page([opus_head(3840, 24_000)], 0),
            self._writer.page([opus_tags("test")], 0),
        ]

    def page(self, packet: bytes | None = None) -> bytes:
        self._position += 1920
        return self._writer.page([self._packet if packet is None else packet], self._position)


@asynccontextmanager
async def raw_model(
    behave: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    """A model server that does what a test says. Its URL."""
    async with serve(behave, HOST, 0, ping_interval=None, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://{HOST}:{port}{CHAT_PATH}"


class Peer:
    """Twilio's end of a media socket: sends what a test says, and echoes no marks."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self._frames = 0

    async def send(self, message: str) -> None:
        await self.socket.send_str(message)

    async def speak(self, frames: int, payload: bytes = b"\xff" * 160) -> None:
        """The next frames, every 20 ms, numbered as Twilio numbers them."""
        for _ in range(frames):
            await self.send(media(self._frames, payload))
            self._frames += 1
            await asyncio.sleep(0.02)

    async def burst(self, frames: int, payload: bytes = b"\xff" * 160) -> None:
        """The next frames, all at once."""
        for _ in range(frames):
            await self.send(media(self._frames, payload))
            self._frames += 1

    def cut(self) -> None:
        """The connection is gone, without a word."""
        transport = self.socket.get_extra_info("socket")
        assert transport is not None
        transport.shutdown(2)

    async def close_code(self, within_s: float = 3.0) -> int | None:
        """The code the bridge closes with; it has three seconds to."""
        async with asyncio.timeout(within_s):
            while (await self.socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
                pass
        return self.socket.close_code


@asynccontextmanager
async def raw_twilio(
    line: Line,
    *,
    start: bool = True,
    call_sid: str = CALL_SID,
    parameters: dict[str, str] | None = None,
    answers_pings: bool = True,
) -> AsyncIterator[Peer]:
    """A media socket of a test's own, without a webhook before it."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(line.stream_url, autoping=answers_pings) as socket,
    ):
        peer = Peer(socket)
        if start:
            await peer.send(inbound.serialize(inbound.Connected()))
            event = inbound.Start(
                STREAM_SID, call_sid, ACCOUNT_SID, custom_parameters=parameters or {}
            )
            await peer.send(inbound.serialize(event))
        yield peer


async def in_conversation(line: Line, peer: Peer, model: ModelServer) -> None:
    """Return once the model's stand-in hears and answers: 160 ms of the caller so far."""
    await until(lambda: any(record.handshake_s is not None for record in line.bridge.records))
    await asyncio.sleep(0.01)  # what is said from now on is said to a model that listens
    await peer.speak(8)
    await until(lambda: model.sessions[0].frames_out == 2)


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
