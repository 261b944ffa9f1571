"""Running an aiohttp application for a while, towards a network where anyone can connect.

A connection carries one request. A second one would save a proxy in front very little; without it
there is no idle connection that is closed just as the next webhook comes along it, and nothing
that is smuggled in behind a request is ever read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from personaplex_bridge import logs
from personaplex_bridge.errors import ConfigError, WrongValue

HEADERS_TIMEOUT_S = 10.0
"""From connecting to the end of the request's headers."""

LINGERING_S = 2.0
"""How long the rest of a refused body is read, so that the answer reaches who is still sending."""

MAX_HEADERS = 64
"""Twilio sends a dozen; proxies add some."""

MAX_HEADER_BYTES = 8190
"""The longest header line."""

MAX_STRANGERS = 512
"""Connections that have not shown yet that they are Twilio's. One more, and the oldest goes: who
fills them all up is pushed out by the next webhook, not the other way round."""

OTHER_FILES = 100
"""Open files of a process that are no connections, generously."""

SERVER = "personaplex-bridge"

_log = logging.getLogger(logs.NAME)


@asynccontextmanager
async def hosted(
    app: web.Application, host: str, port: int, max_header_bytes: int = MAX_HEADER_BYTES
) -> AsyncIterator[int]:
    """Serve `app` inside the block; gives the port (the one chosen, if `port` is 0).

    No access log: a webhook's query may hold a prompt.

    Raises:
        ConfigError: the address can't be listened on.
    """
    app.middlewares.append(_note_request)
    app.on_response_prepare.append(_name_server)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    server, loop, strangers = runner.server, asyncio.get_running_loop(), _Strangers()
    assert server is not None  # noqa: S101 - it is there after setup

    def connection() -> _Connection:
        return _Connection(
            strangers,
            server,
            loop=loop,
            access_log=None,
            # Twilio doesn't compress bodies.
            auto_decompress=False,
            lingering_time=LINGERING_S,
            max_line_size=max_header_bytes,
            max_field_size=max_header_bytes,
            max_headers=MAX_HEADERS,
        )

    try:
        try:
            listener = await loop.create_server(connection, host, port)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "no such host"
            address = WrongValue("host, port", f"{host}:{port}", f"can't listen: {why}")
            raise ConfigError(address) from error
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def allow_connections(number: int) -> None:
    """Let this process have so many connections at once, if the system's limit is a lower one.

    Shells and service managers set 1,024 by default, and systems allow far more.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    wanted = number + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        except (ValueError, OSError):  # macOS: beyond what its kernel gives any process
            allowed = soft
        if allowed < wanted:
            _log.warning("the system allows %d open files, %d may be needed", allowed, wanted)


def vouch_for(request: web.Request) -> None:
    """The sender of a request has shown who they are: their connection is no stranger's."""
    if isinstance(request.protocol, _Connection):
        request.protocol.vouched_for()


class _Connection(web.RequestHandler):
    """One connection, for one request."""

    __slots__ = ("_deadline", "_strangers")

    def __init__(self, strangers: _Strangers, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._strangers = strangers
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        super().connection_made(transport)
        self._strangers.add(self)
        # Of our own: aiohttp's is meant for kept connections, and is given up once they have asked.
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HEADERS_TIMEOUT_S, self.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """They are gone."""
        self._strangers.remove(self)
        self.has_asked()
        super().connection_lost(exc)

    def has_asked(self) -> None:
        """The headers of the request are complete."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def vouched_for(self) -> None:
        """They have shown who they are."""
        self._strangers.remove(self)

    def abort(self) -> None:
        """Let go of it, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer, and close."""
        self.has_asked()
        if isinstance(resp, web.StreamResponse) and not resp.prepared:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, in few words: aiohttp's own quote it, here and in the log."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        _log.debug("refused what is no HTTP request: %s", type(exc).__name__)
        return web.Response(status=400, text="bad request\n", headers={"Server": SERVER})


class _Strangers:
    """The connections that have not shown who they are, the oldest first."""

    def __init__(self) -> None:
        self._connections: dict[_Connection, None] = {}
        self._is_told = False

    def add(self, connection: _Connection) -> None:
        self._connections[connection] = None
        if len(self._connections) <= MAX_STRANGERS:
            return
        oldest = next(iter(self._connections))
        self.remove(oldest)
        oldest.abort()
        if not self._is_told:
            _log.warning("more than %d strangers are connected: the oldest go", MAX_STRANGERS)
            self._is_told = True

    def remove(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)
        if len(self._connections) < MAX_STRANGERS // 2:
            self._is_told = False


@web.middleware
async def _note_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    if isinstance(request.protocol, _Connection):
        request.protocol.has_asked()
    return await handler(request)


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Who answers is nobody's business, nor with which version of what."""
    response.headers["Server"] = SERVER
