"""One client's session: the place, the model's connection, the upgrade, the relay, the ending."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.gate.asked import Asked
from personaplex_bridge.gate.ending import ABNORMAL, GOING_AWAY, By, Ending
from personaplex_bridge.gate.meters import Meters, SessionMeter
from personaplex_bridge.gate.model import ModelConnection, connected
from personaplex_bridge.gate.place import Place
from personaplex_bridge.gate.relay import MAX_CLIENT_MESSAGE_BYTES, Relay

CLOSE_TIMEOUT_S = 1.0
"""Until a client answers a close frame."""
WRITE_LIMIT_BYTES = 4096
"""Handed to the client's connection before sending waits: the model's audio of a second."""

_STOPPED = Ending(By.GATE, "the gate is being stopped", GOING_AWAY)

_log = logging.getLogger(f"{logs.NAME}.gate")


class Session:
    """One client's session with the model."""

    def __init__(self, asked: Asked, meters: Meters) -> None:
        self._asked = asked
        self._meters = meters
        self._running: Relay | None = None
        self._is_stopped = False
        self._client = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            autoping=False,
            compress=False,
            max_msg_size=MAX_CLIENT_MESSAGE_BYTES,
            writer_limit=WRITE_LIMIT_BYTES,
        )

    @property
    def response(self) -> web.StreamResponse:
        """What the request was answered with; something that nobody reads, if the client left."""
        return self._client if self._client.prepared else web.Response(status=400)

    def stop(self) -> None:
        """The gate is being stopped."""
        self._is_stopped = True
        if self._running is not None:
            self._running.stop(_STOPPED)

    async def run(
        self, request: web.Request, place: Place, model_url: str, handshake_timeout_s: float
    ) -> Ending:
        """The whole session; returns how it ended when the client's connection is closed too.

        Raises:
            GateRefusal: the place is taken, or the model refuses; the request is still to be
                answered.
        """
        is_gone = partial(_has_left, request)
        async with place.taken(is_gone), connected(model_url, self._asked) as model:
            try:
                ending = await self._relay(request, model, handshake_timeout_s, place.end)
            finally:
                place.end()
        await self._close(request, ending)
        return ending

    async def _relay(
        self,
        request: web.Request,
        model: ModelConnection,
        handshake_timeout_s: float,
        on_over: Callable[[], None],
    ) -> Ending:
        if not await self._upgrade(request):
            return Ending(By.CLIENT, "client left before the upgrade", ABNORMAL)
        began_s = self._meters.clock.now()
        self._meters.sessions_served += 1
        _log.info("call began (voice %s)", self._asked.voice.removesuffix(".pt"))
        meter = SessionMeter(self._meters)
        relay = Relay(self._client, model.websocket, meter, handshake_timeout_s, on_over)
        self._running = relay
        if self._is_stopped:  # while it was connecting
            relay.stop(_STOPPED)
        try:
            ending = await relay.run()
        finally:
            model.is_ready = relay.is_ready
        lasted_s = self._meters.clock.now() - began_s
        _log.info("call ended after %.0f s: %s", lasted_s, ending.reason)
        return ending

    async def _upgrade(self, request: web.Request) -> bool:
        """Whether the client is still there, and has its 101."""
        if _has_left(request):
            return False
        try:
            await self._client.prepare(request)
        except ConnectionError:
            return False
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES)
        return True

    async def _close(self, request: web.Request, ending: Ending) -> None:
        """Close the client's connection: in good order if it listens, else for certain."""
        if ending.by is not By.CLIENT:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                    await self._client.close(code=ending.code, message=ending.reason.encode())
        # What a client that reads nothing hasn't taken by now would keep the connection for ever.
        if request.transport is not None:
            request.transport.abort()


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
