"""The gate's connection to the model server, which is closed for certain before there is another.

A second connection, even one that only waits, would change the persona of the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import ClientWebSocketResponse, ClientWSTimeout, WSMsgType

from personaplex_bridge.errors import GateRefusal
from personaplex_bridge.gate.asked import Asked
from personaplex_bridge.gate.ending import NORMAL
from personaplex_bridge.gate.relay import MAX_MODEL_MESSAGE_BYTES
from personaplex_bridge.values import CHAT_PATH

OPEN_TIMEOUT_S = 3.0
"""From connecting to the upgrade. Bridges wait 4 s, and would then find the place taken by their
own attempt."""
CLOSE_TIMEOUT_S = 0.5
"""Until the model answers a close frame."""
UNANSWERED_S = 0.01
"""The same before its handshake, when it doesn't answer any."""
NOTICED_S = 0.15
"""A server that takes in prompts looks once a step (55 ms) whether its client is still there."""
GONE_TIMEOUT_S = 2.0


class ModelConnection:
    """One connection to the model server. Use `connected` to get one."""

    def __init__(self) -> None:
        self.is_ready = False
        """Whether the model has shaken hands, and answers a close."""
        self._sockets: list[socket.socket] = []
        self._websocket: ClientWebSocketResponse | None = None
        self._may_be_known = True
        """Whether the server may take us for a client: not if it has refused."""

    @property
    def websocket(self) -> ClientWebSocketResponse:
        """The open socket."""
        assert self._websocket is not None  # noqa: S101 - it is open inside `connected`
        return self._websocket

    def make_socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """For aiohttp: the sockets are remembered, so that it can be told when they are closed."""
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        self._sockets.append(made)
        return made

    async def open(self, http: aiohttp.ClientSession, url: str, asked: Asked) -> None:
        """Connect and upgrade.

        Raises:
            GateRefusal: 502, the model server refuses or isn't there.
        """
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                self._websocket = await http.ws_connect(
                    f"{url}{CHAT_PATH}?{asked.query}",
                    compress=0,
                    autoping=False,
                    max_msg_size=MAX_MODEL_MESSAGE_BYTES + 1,  # aiohttp refuses from there on
                    timeout=ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            self._may_be_known = False
            why = f"the model server answers HTTP {error.status}"
        except aiohttp.ClientConnectorError:
            self._may_be_known = False
            why = "the model server takes no connection"
        except (aiohttp.ClientError, OSError) as error:
            why = f"the model server doesn't answer ({type(error).__name__})"
        else:
            return
        raise GateRefusal(502, "model_refused", why)

    async def close(self) -> None:
        """Close it, within a second or so, and have the server notice."""
        websocket = self._websocket
        server_left = not self._may_be_known or (websocket is not None and websocket.closed)
        if websocket is not None:
            if self.is_ready and not websocket.closed:
                await _within(CLOSE_TIMEOUT_S, _say_goodbye(websocket))
            await _within(UNANSWERED_S, websocket.close())
        self._break_off()
        if not server_left and not self.is_ready:
            await asyncio.sleep(NOTICED_S)

    def _break_off(self) -> None:
        """Whatever is still to be sent isn't: a server that reads nothing would hold it back."""
        for made in self._sockets:
            if made.fileno() != -1:
                with contextlib.suppress(OSError):
                    made.shutdown(socket.SHUT_RDWR)

    async def gone(self) -> None:
        """Return when the operating system has no connection of ours to the server any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_TIMEOUT_S):
                while any(made.fileno() != -1 for made in self._sockets):  # noqa: ASYNC110
                    # asyncio tells nobody else when it has closed a socket.
                    await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(url: str, asked: Asked) -> AsyncIterator[ModelConnection]:
    """A connection to the model server at `url`; closed on exit, also when cancelled.

    Raises:
        GateRefusal: 502, the model server refuses or isn't there.
    """
    connection = ModelConnection()
    connector = aiohttp.TCPConnector(force_close=True, socket_factory=connection.make_socket)
    http = aiohttp.ClientSession(connector=connector)
    try:
        await connection.open(http, url, asked)
        yield connection
    finally:
        closing = asyncio.create_task(_close(connection, http), name="gate-close-model")
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise


async def _close(connection: ModelConnection, http: aiohttp.ClientSession) -> None:
    await connection.close()
    await http.close()
    await connection.gone()


async def _say_goodbye(websocket: ClientWebSocketResponse) -> None:
    """Aiohttp's own `close` doesn't wait for the answer once a `receive` was cancelled."""
    await websocket.send_frame(NORMAL.to_bytes(2, "big"), WSMsgType.CLOSE)
    ends = (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
    while (await websocket.receive()).type not in ends:
        pass


async def _within(seconds: float, closing: Awaitable[object]) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(seconds):
            await closing
