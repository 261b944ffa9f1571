"""A connection to a model server: a thin shell around a `websockets` client.

What the server is like decides the settings here (docs/protocol.md): it answers no pings before
its handshake, so keepalive starts after it; it never answers the close of a client that is still
waiting, so nobody waits for that; it sends no compressed frames worth having.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from personaplex_bridge.errors import LeaseLost, ModelClosed, ModelError, ModelUnavailable
from personaplex_bridge.personaplex import refusals
from personaplex_bridge.personaplex.messages import Message
from personaplex_bridge.personaplex.protocol import LineProtocol, LineState
from personaplex_bridge.personaplex.voices import Role, chat_url
from personaplex_bridge.values import LOOPBACK_HOSTS

MAX_MESSAGE_BYTES = 64 * 1024
"""Longest message read from the model; its own are under 500 bytes."""

MAX_QUEUED_MESSAGES = 64
"""Messages read ahead (about 2.5 s); beyond that the server is pushed back."""

ABNORMAL = 1006
"""The close code of a connection that ended without one (RFC 6455)."""

OPEN_TIMEOUT_S = 4.0
"""From connecting to the upgrade: far more than a network needs, and little enough that a call
can still try another server within 5 s.
"""
CLOSE_TIMEOUT_S = 0.5
NOTICED_S = 0.15
"""A server that is taking in prompts looks once a step (55 ms) whether the client is still there.
Until it has, a new connection would be a second one.
"""
PING_INTERVAL_S = 20.0
"""RunPod's proxy cuts WebSockets that are idle for about 100 s."""
PONG_TIMEOUT_S = 20.0
WRITE_LIMIT_BYTES = 4096
"""Audio (about half a second) handed to the transport before sending waits: backlog belongs where
it is bounded by media time."""


Check: TypeAlias = Callable[[], None]
"""Raises LeaseLost if the server may be another bridge's: then not a byte may go there."""


def always_ours() -> None:
    """The `Check` of a server that nobody else uses."""


class _CheckedConnection(ClientConnection):
    """Asks before every write, the upgrade's included: loop timers may be late, and a process
    that was stopped goes on in the middle of anything.
    """

    def __init__(self, check: Check, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check = check

    def send_data(self) -> None:
        """Write what is to be sent, or break the connection off."""
        try:
            self._check()
        except LeaseLost:
            self.transport.abort()
        else:
            super().send_data()


class _connect(connect):  # noqa: N801 - it is called like a function
    """Follows no redirects: prompt and token are for this server only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """The answer was not a 101; that is all."""
        return exc


class PersonaPlexLine:
    """One connection to one model server, for one call. Use `open_line` to get one."""

    def __init__(self, socket: ClientConnection, check: Check = always_ours) -> None:
        self._socket = socket
        self._check = check
        self._protocol = LineProtocol()
        self._given_up: ModelError | None = None
        """Why we broke the connection off ourselves."""
        self.server: int | None = None
        """The server's place in the settings, from 1, once a call has the line."""

    @property
    def ignored(self) -> dict[str, int]:
        """How many messages were ignored, by reason."""
        return self._protocol.ignored

    async def send_audio(self, ogg: bytes) -> None:
        """Send Ogg Opus bytes to the model. Waits while the socket is backed up.

        Raises:
            ModelClosed: the connection is gone.
            LeaseLost: the server may be another bridge's; nothing was sent.
            LocalProtocolError: before the handshake.
        """
        self._check()
        frame = self._protocol.send_audio(ogg)
        try:
            await self._socket.send(frame)
        except ConnectionClosed as error:
            raise self._closed(error) from error

    async def receive(self) -> Message:
        """The next message of the model, without those that the protocol ignores.

        Raises:
            ModelClosed: the server closed. It has no good reason to, so even 1000 is an error.
            LeaseLost: the server may be another bridge's.
        """
        try:
            while True:
                message = self._protocol.receive(await self._socket.recv())
                if message is not None:
                    return message
        except ConnectionClosed as error:
            raise self._closed(error) from error

    async def keepalive(self) -> None:
        """Ping for ever. Only after the handshake: before it the server answers none.

        Raises:
            ModelClosed: no pong in time, or the connection is gone.
        """
        try:
            while not await self._ends_within(PING_INTERVAL_S):
                async with asyncio.timeout(PONG_TIMEOUT_S):
                    await (await self._socket.ping())
            await self._socket.ping()  # raises why it has ended
        except TimeoutError:
            # Nobody is there to answer a close either.
            self.abort(error := ModelClosed(ABNORMAL, f"no pong within {PONG_TIMEOUT_S:g} s"))
            raise error from None
        except ConnectionClosed as closed:
            raise self._closed(closed) from closed

    def abort(self, error: ModelError) -> None:
        """Break the connection off, without a close frame; whoever uses it gets `error`."""
        self._given_up = error
        self._socket.transport.abort()

    async def _ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._socket.wait_closed()
        except TimeoutError:
            return False
        return True

    def _closed(self, error: ConnectionClosed) -> ModelError:
        if (why := self._why_broken_off()) is not None:
            return why
        close = error.rcvd or error.sent
        if close is not None:
            return ModelClosed(close.code, close.reason)
        if self._protocol.state is LineState.WAITING:
            return ModelClosed(ABNORMAL, "before its handshake: it can't use what it was asked for")
        return ModelClosed(ABNORMAL, "connection lost")

    def _why_broken_off(self) -> ModelError | None:
        if self._given_up is not None:
            return self._given_up
        try:
            self._check()
        except LeaseLost as lost:
            return lost
        return None

    async def close(self) -> None:
        """Close the connection, within `CLOSE_TIMEOUT_S`, and have the server notice."""
        if self._protocol.state is not LineState.WAITING:
            await self._socket.close()
            return
        # The server doesn't answer now, and the sooner it sees us gone the better.
        self._socket.close_timeout = 0.01
        server_left = self._socket.close_code is not None and self._why_broken_off() is None
        await self._socket.close()
        if not server_left:
            await asyncio.sleep(NOTICED_S)


@asynccontextmanager
async def open_line(
    server: str,
    role: Role,
    tls: ssl.SSLContext | None = None,
    check: Check = always_ours,
    token: str | None = None,
) -> AsyncIterator[PersonaPlexLine]:
    """A connection to the model server at `server` (ws or wss, with its path), closed on exit.

    `token` is for a gate in front of the server; a bare server doesn't look at it.

    Cancelled while it connects, it ends when the server has noticed. Nothing goes to the server
    once `check` raises.

    Raises:
        ModelUnavailable: refused, no such host, TLS trouble, or an HTTP status other than 101.
        LeaseLost: the server may be another bridge's.
    """
    check()
    try:
        socket = await _connect(
            chat_url(server, role),
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            ssl=tls,
            proxy=None if urlsplit(server).hostname in LOOPBACK_HOSTS else True,
            compression=None,
            ping_interval=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=MAX_QUEUED_MESSAGES,
            write_limit=WRITE_LIMIT_BYTES,
            create_connection=cast("type[ClientConnection]", partial(_CheckedConnection, check)),
        )
    except (OSError, WebSocketException, UnicodeError, ImportError) as error:
        check()  # else it was broken off for that
        # The server's address may be told; the URL with its prompt may not. (UnicodeError: a
        # host that is no host name. ImportError: a proxy of a kind that needs another package.)
        raise ModelUnavailable(f"no connection to {server}: {_why(error, token)}") from error
    except asyncio.CancelledError:
        await asyncio.sleep(NOTICED_S)  # it may have taken the connection
        raise
    line = PersonaPlexLine(socket, check)
    try:
        yield line
    finally:
        # In a task of its own, for the reason given in `BridgeSession.run`, and to its end:
        # whoever connects next must find this connection gone.
        closing = asyncio.create_task(line.close(), name="close-line")
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise


def _why(error: Exception, token: str | None) -> str:
    match error:
        case InvalidURI() | UnicodeError():
            return "not a usable address"
        case InvalidStatus():
            response = error.response
            return refusals.in_words(
                response.status_code, bytes(response.body or b""), has_token=bool(token)
            )
        case _:
            return str(error)
