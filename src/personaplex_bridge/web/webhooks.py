"""What Twilio asks in the course of a call, and the TwiML it gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.errors import ModelBusy, ModelUnavailable
from personaplex_bridge.personas import Choice
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.twilio import twiml
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.tickets import TOKEN_PARAMETER, Tickets

WEBHOOK_PATH = "/voice/inbound"
STREAM_PATH = "/voice/stream"

Choose = Callable[[Mapping[str, str], str], Choice]
"""The role for a call: by what was asked for, and the number called."""

_log = logging.getLogger(logs.NAME)


class Webhooks:
    """The routes that answer with TwiML."""

    def __init__(
        self, access: Access, pool: ModelPool, choose: Choose, tickets: Tickets | None
    ) -> None:
        self._access = access
        self._pool = pool
        self._choose = choose
        self._tickets = tickets

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes to an application's."""
        router.add_get(WEBHOOK_PATH, self.answer_call)
        router.add_post(WEBHOOK_PATH, self.answer_call)

    async def answer_call(self, request: web.Request) -> web.Response:
        """Connect the call to the media socket, or give it a busy signal."""
        asked = await self._access.read_webhook(request)
        choice = self._choose(request.query, asked.get("To", ""))
        for warning in choice.warnings:
            _log.warning("webhook: %s", warning)
        call_sid = asked.get("CallSid", "")
        try:
            await self._pool.reserve(call_sid, choice.role)
        except (ModelBusy, ModelUnavailable) as error:
            _log.warning("turned a call away: %s", error)
            return _xml(twiml.reject_busy())
        stream_url = self._access.stream_base(request) + STREAM_PATH
        return _xml(twiml.connect_stream(stream_url, self._with_token(call_sid, choice.parameters)))

    def _with_token(self, call_sid: str, parameters: dict[str, str]) -> dict[str, str]:
        """The parameters of a call's stream, and the one-time token that lets it in."""
        if self._tickets is None:
            return parameters
        return {**parameters, TOKEN_PARAMETER: self._tickets.issue(call_sid, parameters)}


def _xml(document: str) -> web.Response:
    return web.Response(text=document, content_type="text/xml")
