"""The web application: webhooks, the media socket, a health page, and the calls in progress."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import Catalogue, choose
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.record import CallRecord
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.twilio.stream import MediaStream
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.webhooks import STREAM_PATH, Webhooks

CLOSE_TIMEOUT_S = 0.5
"""How long Twilio may take to answer a close frame."""

SHUTDOWN_TIMEOUT_S = 2.0
"""How long ending the calls in progress may take."""

CallOver = Callable[[CallRecord], None]


class Bridge:
    """The routes, and the calls in progress."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        pool: ModelPool,
        on_call_over: CallOver | None = None,
        *,
        waiting_sound: bytes | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._access = Access(settings)
        self._choose = partial(choose, catalogue, settings.persona)
        self._webhooks = Webhooks(self._access, pool, self._choose)
        self._on_call_over = on_call_over
        self._waiting_sound = waiting_sound
        self._clock = clock
        self._began = time.monotonic()
        self._numbers = itertools.count(1)
        self._calls: dict[asyncio.Task[None], BridgeSession] = {}

    @property
    def records(self) -> list[CallRecord]:
        """The calls in progress, as far as they have come."""
        return [session.record for session in self._calls.values()]

    def application(self) -> web.Application:
        """The aiohttp application that serves this bridge."""
        app = web.Application(client_max_size=self._settings.max_body_bytes)
        self._webhooks.add_to(app.router)
        app.router.add_get(STREAM_PATH, self.serve_stream)
        app.router.add_get("/healthz", self.tell_health)
        app.cleanup_ctx.append(self._tend_pool)
        app.on_shutdown.append(self.end_calls)
        return app

    async def serve_stream(self, request: web.Request) -> web.WebSocketResponse:
        """One call's media socket, from upgrade to close."""
        self._access.check_upgrade(request)
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            max_msg_size=self._settings.max_message_bytes,
            compress=False,
            decode_text=False,  # orjson reads bytes
        )
        await socket.prepare(request)
        if request.transport is not None:  # else it is gone already
            await self._run_call(socket, request.transport)
        return socket

    async def tell_health(self, _request: web.Request) -> web.Response:
        """Alive, how many calls, for how many seconds, and how the model servers stand."""
        body = {
            "status": "ok",
            "sessions": len(self._calls),
            "uptime": round(time.monotonic() - self._began, 1),
            "lines": dict(self._pool.states),
            "servers": [dataclasses.asdict(server) for server in self._pool.servers],
            "leases": "ok" if self._pool.leases_reachable else "away",
        }
        return web.json_response(body)

    async def _run_call(
        self, socket: web.WebSocketResponse, transport: asyncio.WriteTransport
    ) -> None:
        log = logs.CallLog(next(self._numbers))
        session = BridgeSession(
            MediaStream(socket, transport, log),
            self._pool.line,
            self._choose,
            self._settings,
            log,
            waiting_sound=self._waiting_sound,
            clock=self._clock,
        )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler always runs in a task
        self._calls[task] = session
        try:
            await session.run()
        finally:
            del self._calls[task]
            if self._on_call_over is not None:
                self._on_call_over(session.record)

    async def _tend_pool(self, _app: web.Application) -> AsyncIterator[None]:
        async with self._pool.tended():
            yield

    async def end_calls(self, _app: web.Application | None = None) -> None:
        """End the calls in progress (close code 1001); returns once they have ended."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=SHUTDOWN_TIMEOUT_S)
