"""The web application: the TwiML webhook, the media socket, and a health page."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import LOOPBACK_HOSTS, Settings
from personaplex_bridge.errors import ModelBusy
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import Catalogue, choose
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.record import CallRecord
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.twilio import signature, twiml
from personaplex_bridge.twilio.stream import MAX_MESSAGE_BYTES, MediaStream

WEBHOOK_PATH = "/voice/inbound"
STREAM_PATH = "/voice/stream"
MAX_BODY_BYTES = 64 * 1024
CLOSE_TIMEOUT_S = 0.5
"""How long Twilio may take to answer a close frame."""

SHUTDOWN_TIMEOUT_S = 2.0
"""How long ending the calls in progress may take."""

MAX_FIELDS = 200
"""Twilio's webhooks have about thirty parameters."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_log = logging.getLogger(logs.NAME)

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
        self._choose = partial(choose, catalogue, settings.persona)
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
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get(WEBHOOK_PATH, self.answer_webhook)
        app.router.add_post(WEBHOOK_PATH, self.answer_webhook)
        app.router.add_get(STREAM_PATH, self.serve_stream)
        app.router.add_get("/healthz", self.tell_health)
        app.cleanup_ctx.append(self._tend_pool)
        app.on_shutdown.append(self.end_calls)
        return app

    async def answer_webhook(self, request: web.Request) -> web.Response:
        """TwiML that connects the call to the media socket, or a busy signal."""
        form = await _read_form(request)
        base = self._public_base(request)
        self._check_webhook(request, base, form)
        called = form.get("To", request.query.get("To", ""))
        choice = self._choose(request.query, called)
        for warning in choice.warnings:
            _log.warning("webhook: %s", warning)
        try:
            self._begin(form.get("CallSid", request.query.get("CallSid", "")), choice.role)
        except ModelBusy as error:
            _log.warning("turned a call away: %s", error)
            return _xml(twiml.reject_busy())
        stream_url = "ws" + base.removeprefix("http") + STREAM_PATH
        return _xml(twiml.connect_stream(stream_url, choice.parameters))

    def _begin(self, call_sid: str, role: Role) -> None:
        """Have the model take in its prompts while the phone still connects its stream."""
        if call_sid:
            self._pool.reserve(call_sid, role)
        elif self._pool.free == 0:  # no call, but somebody trying the address
            raise ModelBusy("every line to the model server is taken")

    async def serve_stream(self, request: web.Request) -> web.WebSocketResponse:
        """One call's media socket, from upgrade to close."""
        token = self._settings.twilio_auth_token
        url = "ws" + self._public_base(request).removeprefix("http") + request.raw_path
        if token and not signature.upgrade_is_signed(token, url, _signature_of(request)):
            _log.warning("refused a media socket: its signature is wrong")
            raise web.HTTPForbidden(text="wrong signature\n")
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            max_msg_size=MAX_MESSAGE_BYTES,
            compress=False,
            decode_text=False,  # orjson reads bytes
        )
        await socket.prepare(request)
        if request.transport is not None:  # else it is gone already
            await self._run_call(socket, request.transport)
        return socket

    async def tell_health(self, _request: web.Request) -> web.Response:
        """Alive, how many calls, for how many seconds, and how the model's lines stand."""
        uptime = round(time.monotonic() - self._began, 1)
        lines = dict(self._pool.states)
        body = {"status": "ok", "sessions": len(self._calls), "uptime": uptime, "lines": lines}
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

    def _public_base(self, request: web.Request) -> str:
        """Scheme and host as Twilio sees them: PUBLIC_URL, else what a proxy forwarded.

        Without either, only a caller on this machine itself may be served in the clear: Twilio
        takes nothing but `wss`.
        """
        if self._settings.public_url is not None:
            return self._settings.public_url
        host = request.headers.get("X-Forwarded-Host", request.host).split(",")[0].strip()
        if not _HOST.fullmatch(host):
            raise web.HTTPBadRequest(text="no usable host\n")
        forwarded = {"X-Forwarded-Host", "X-Forwarded-Proto"} & set(request.headers)
        local = not forwarded and urlsplit(f"//{host}").hostname in LOOPBACK_HOSTS
        return f"http://{host}" if local else f"https://{host}"

    def _check_webhook(self, request: web.Request, base: str, form: Mapping[str, str]) -> None:
        """Refuse with 403 what isn't Twilio's, or is another account's."""
        token, account = self._settings.twilio_auth_token, self._settings.twilio_account_sid
        url = base + request.raw_path
        signed = _signature_of(request)
        if token and not signature.webhook_is_signed(token, url, form, signed):
            _log.warning(
                "refused a webhook: its signature is wrong for %s%s; is PUBLIC_URL right?",
                base,
                request.path,
            )
            raise web.HTTPForbidden(text="wrong signature\n")
        named = form.get("AccountSid", request.query.get("AccountSid"))
        if account and named != account:
            _log.warning("refused a webhook: it is not of the account TWILIO_ACCOUNT_SID")
            raise web.HTTPForbidden(text="another account\n")


async def _read_form(request: web.Request) -> dict[str, str]:
    """The POST parameters, as Twilio sends them: URL-encoded UTF-8.

    Anything else gets 400: anyone can send anything here before a signature is checked.
    """
    try:
        body = (await request.read()).decode("utf-8")
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise web.HTTPBadRequest(text="no readable form\n") from None


def _signature_of(request: web.Request) -> str:
    return request.headers.get(signature.HEADER, "")


def _xml(document: str) -> web.Response:
    return web.Response(text=document, content_type="text/xml")
