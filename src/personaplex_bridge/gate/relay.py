"""Between one client and the model: every message passes on as it is, and nobody waits for ever.

What a client sends before the model's handshake (0x00) is not passed on. The server would read and
throw it away, one message a step, and find out only after the last that the client has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import ClientWebSocketResponse, WebSocketError, WSMessage, WSMsgType, web

from personaplex_bridge.gate.ending import By, Ending, SessionOver, client_left, model_left
from personaplex_bridge.gate.meters import SessionMeter
from personaplex_bridge.personaplex.messages import Kind

MAX_CLIENT_MESSAGE_BYTES = 4 << 20
"""What the model server takes."""
MAX_MODEL_MESSAGE_BYTES = 64 << 10
"""Its own are under 500 bytes."""

PING_INTERVAL_S = 20.0
"""RunPod's proxy cuts WebSockets that are idle for about 100 s."""
PONG_TIMEOUT_S = 20.0
SEND_TIMEOUT_S = 10.0
"""For one message, when the other side reads nothing: less than a pong is waited for, since who
waits here reads no pong."""

Socket: TypeAlias = web.WebSocketResponse | ClientWebSocketResponse


class Relay:
    """One session, from both sockets being open to one of them having ended.

    `on_over` is called the moment it is over; `run` returns a little later.
    """

    def __init__(
        self,
        client: web.WebSocketResponse,
        model: ClientWebSocketResponse,
        meter: SessionMeter,
        handshake_timeout_s: float,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = _Side(client)
        self._model = _Side(model)
        self._meter = meter
        self._handshake_timeout_s = handshake_timeout_s
        self._on_over = on_over
        self._ready = asyncio.Event()
        self._stopped: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    @property
    def is_ready(self) -> bool:
        """Whether the model has taken in its prompts."""
        return self._ready.is_set()

    def stop(self, ending: Ending) -> None:
        """End it from outside."""
        if not self._stopped.done():
            self._stopped.set_result(ending)

    async def run(self) -> Ending:
        """Relay until the end. The sockets are left to be closed."""
        ending: Ending | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, loop in (
                    ("gate-hear-client", self._hear_client()),
                    ("gate-hear-model", self._hear_model()),
                    ("gate-watch-client", self._watch_client()),
                    ("gate-watch-model", self._watch_model()),
                    ("gate-stopped", self._end_when_stopped()),
                ):
                    tasks.create_task(loop, name=name)
        except* SessionOver as over:
            ending = _first(over).ending
        assert ending is not None  # noqa: S101 - none of the loops ends in another way
        return ending

    async def _hear_client(self) -> None:
        while True:
            message = await self._client.receive()
            if message is None:
                raise self._over(client_left(self._client.code, self._client.fault))
            if self._ready.is_set():
                if _is_audio(message):
                    self._meter.heard(message.data)
                await self._send(self._model, message, "the model reads nothing")
            else:
                self._meter.discarded += 1

    async def _hear_model(self) -> None:
        while True:
            message = await self._model.receive()
            if message is None:
                left = model_left(self._model.code, self._model.fault, is_ready=self.is_ready)
                raise self._over(left)
            if _is_audio(message):
                self._meter.said(message.data)
            elif not self._ready.is_set() and _kind(message) == Kind.HANDSHAKE:
                self._ready.set()  # before the client hears of it, and answers
            await self._send(self._client, message, "client reads nothing")

    async def _send(self, side: _Side, message: WSMessage, stuck: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await side.send(message)
        except TimeoutError:
            raise self._over(Ending(self._whose(side), stuck)) from None

    async def _watch_client(self) -> None:
        await self._ping(self._client, "no pong of the client")

    async def _watch_model(self) -> None:
        """The handshake has a deadline; pings are answered only after it."""
        try:
            async with asyncio.timeout(self._handshake_timeout_s):
                await self._ready.wait()
        except TimeoutError:
            late = f"no handshake of the model within {self._handshake_timeout_s:g} s"
            raise self._over(Ending(By.MODEL, late)) from None
        await self._ping(self._model, "no pong of the model")

    async def _ping(self, side: _Side, silent: str) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            try:
                async with asyncio.timeout(PONG_TIMEOUT_S):
                    await side.ping()
            except TimeoutError:
                why = f"{silent} within {PONG_TIMEOUT_S:g} s"
                raise self._over(Ending(self._whose(side), why)) from None

    async def _end_when_stopped(self) -> None:
        raise self._over(await self._stopped)

    def _over(self, ending: Ending) -> SessionOver:
        self._on_over()
        return SessionOver(ending)

    def _whose(self, side: _Side) -> By:
        return By.CLIENT if side is self._client else By.MODEL


class _Side:
    """One of the two sockets. Pings and pongs are its own matter."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._pong = asyncio.Event()
        self.fault: WebSocketError | None = None
        """What was wrong with the last thing it sent."""

    @property
    def code(self) -> int | None:
        """Its close code; None if it is gone without one."""
        return self._socket.close_code

    async def receive(self) -> WSMessage | None:
        """The next message; None if there will be no more."""
        while True:
            message: WSMessage = await self._socket.receive()
            match message.type:
                case WSMsgType.BINARY | WSMsgType.TEXT:
                    return message
                case WSMsgType.PING:
                    await _unless_gone(self._socket.pong(message.data))
                case WSMsgType.PONG:
                    self._pong.set()
                case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
                    self.fault = message.data
                    return None
                case _:
                    return None

    async def send(self, message: WSMessage) -> None:
        """Send a message; nothing happens if the other end is gone: `receive` says why it is."""
        if message.type is WSMsgType.BINARY:
            await _unless_gone(self._socket.send_bytes(message.data))
        else:
            await _unless_gone(self._socket.send_str(message.data))

    async def ping(self) -> None:
        """Return when the other end has answered."""
        self._pong.clear()
        await _unless_gone(self._socket.ping())
        await self._pong.wait()


async def _unless_gone(sending: Awaitable[Any]) -> None:
    try:
        await sending
    except ConnectionError:
        await asyncio.sleep(0)


def _kind(message: WSMessage) -> int | None:
    """The first byte; None for what has none."""
    return message.data[0] if message.type is WSMsgType.BINARY and message.data else None


def _is_audio(message: WSMessage) -> bool:
    return _kind(message) == Kind.AUDIO


def _first(over: BaseExceptionGroup[SessionOver]) -> SessionOver:
    """What ended it; the others are its consequences."""
    error: BaseException = over
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SessionOver)  # noqa: S101 - by the type of the group
    return error
