"""The gate's aiohttp application: its two routes, and what everybody else is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from personaplex_bridge import logs
from personaplex_bridge.errors import GateRefusal
from personaplex_bridge.gate import asked
from personaplex_bridge.gate.access import Pass, Tokens
from personaplex_bridge.gate.asked import Voices
from personaplex_bridge.gate.condition import Condition, Failed, Loading, Up
from personaplex_bridge.gate.ending import By
from personaplex_bridge.gate.meters import Meters
from personaplex_bridge.gate.place import Place
from personaplex_bridge.gate.session import Session
from personaplex_bridge.gate.settings import GateSettings
from personaplex_bridge.values import CHAT_PATH
from personaplex_bridge.web.hosting import vouch_for

HEALTH_PATH = "/healthz"
STOP_TIMEOUT_S = 4.0
"""For a session to close: its connections to model and client, each with deadlines of its own."""
STOPPING_RETRY_S = 30

_log = logging.getLogger(f"{logs.NAME}.gate")


class Gate:
    """Stands before one model server. `on_model_gone` hears when it was found missing."""

    def __init__(self, settings: GateSettings, condition: Condition, meters: Meters) -> None:
        self.on_model_gone: Callable[[], None] = lambda: None
        self._settings = settings
        self._condition = condition
        self._meters = meters
        self._tokens = Tokens(settings.tokens)
        self._voices = Voices(settings.voices_dir, settings.hf_home)
        self._place = Place()
        self._is_stopping = False
        self._empty = asyncio.Event()
        """Set while there is no session."""
        self._empty.set()
        self._sessions: set[Session] = set()
        """The one that has the place, and those that are closing or wait for that."""

    @property
    def is_busy(self) -> bool:
        """Whether the model's place is taken."""
        return self._place.is_held

    def application(self) -> web.Application:
        """The aiohttp application; its shutdown ends the session."""
        app = web.Application(middlewares=[self._answer_refusals, self._ask_for_token])
        app.router.add_get(CHAT_PATH, self._chat, allow_head=False)
        app.router.add_get(HEALTH_PATH, self._health)
        app.on_shutdown.append(self._shut_down)
        return app

    async def stop(self) -> None:
        """End the session, and let nobody in any more. Returns when it is closed, within some
        seconds.
        """
        self._is_stopping = True
        for session in self._sessions:
            session.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._empty.wait()

    async def _shut_down(self, _app: web.Application) -> None:
        await self.stop()

    @web.middleware
    async def _answer_refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except GateRefusal as refusal:
            if self._meters.refuse(refusal.reason):
                _log.info("refused: %s", refusal.reason)
            return _answer(refusal)

    @web.middleware
    async def _ask_for_token(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Before anything else, whatever the route, there or not."""
        shown = self._shown(request)
        is_public = request.path == HEALTH_PATH and shown is Pass.NONE
        if shown is Pass.GOOD:
            vouch_for(request)
        elif not is_public:
            what = "is wrong" if shown is Pass.BAD else "is missing"
            raise GateRefusal(401, "unauthorized", f"the bearer token {what}")
        return await handler(request)

    def _shown(self, request: web.Request) -> Pass:
        return self._tokens.judge(request.headers.get("Authorization"))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if not web.WebSocketResponse(compress=False).can_prepare(request):
            self._condition.refuse_unless_up()
            # As the bare server does: bridges ask in this way whether it is alive.
            return _answer(GateRefusal(400, "bad_request", "this is where WebSockets connect"))
        wanted = asked.check(list(request.query.items()), self._voices)
        self._condition.refuse_unless_up()
        if self._is_stopping:
            raise GateRefusal(503, "stopping", "the gate is being stopped", STOPPING_RETRY_S)
        session = Session(wanted, self._meters)
        self._sessions.add(session)
        self._empty.clear()
        try:
            return await self._serve(request, session)
        finally:
            self._sessions.discard(session)
            if not self._sessions:
                self._empty.set()

    async def _serve(self, request: web.Request, session: Session) -> web.StreamResponse:
        settings = self._settings
        try:
            ending = await session.run(
                request, self._place, settings.model_url, settings.handshake_timeout_s
            )
        except GateRefusal as refusal:
            if refusal.reason == "model_refused":
                self.on_model_gone()
            raise
        if ending.by is By.MODEL:
            self.on_model_gone()
        return session.response

    async def _health(self, request: web.Request) -> web.Response:
        state, is_up = self._condition.state, isinstance(self._condition.state, Up)
        report: dict[str, Any] = {"uptime_s": self._meters.uptime_s}
        match state:
            case Up():
                report = {"status": "busy" if self.is_busy else "idle", **report}
            case Loading() | Failed():
                status = "loading" if isinstance(state, Loading) else "failed"
                report = {"status": status, "detail": str(state), **report}
        if self._shown(request) is Pass.GOOD:
            report |= self._meters.report()
            if isinstance(state, Loading):
                report |= {"stage": state.stage, "downloaded_bytes": state.downloaded_bytes}
        headers = {"Cache-Control": "no-store"}
        return web.json_response(report, status=200 if is_up else 503, headers=headers)


def _answer(refusal: GateRefusal) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    body = {"error": refusal.reason, "detail": refusal.detail}
    return web.json_response(body, status=refusal.status, headers=headers)
