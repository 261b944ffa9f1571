"""What Twilio asks when a call comes in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ModelBusy, ModelUnavailable, QueueFull
from personaplex_bridge.personas import Choice
from personaplex_bridge.twilio.twiml import CLIENT
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.admission import Admission
from personaplex_bridge.web.answers import UNANSWERED, Answers
from personaplex_bridge.web.paths import WEBHOOK_PATH

Choose = Callable[[Mapping[str, str], str], Choice]
"""The role for a call: by what was asked for, and the number called."""

_WISHES = ("persona", "voice", "text_prompt")

_log = logging.getLogger(logs.NAME)


class Webhooks:
    """Lets a call in, if there is a model server for it."""

    def __init__(
        self,
        access: Access,
        answers: Answers,
        admission: Admission,
        choose: Choose,
        settings: Settings,
        app_sid: str | None = None,
    ) -> None:
        self._access = access
        self._answers = answers
        self._admission = admission
        self._choose = choose
        self._may_queue = settings.when_busy == "queue"
        self._app_sid = app_sid

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route to an application's."""
        router.add_get(WEBHOOK_PATH, self.answer_call)
        router.add_post(WEBHOOK_PATH, self.answer_call)

    async def answer_call(self, request: web.Request) -> web.Response:
        """Connect the call to the media socket, or do what is to be done when that can't be."""
        asked = await self._access.read_webhook(request)
        choice = self._choose(self._wishes(request.query, asked), asked.get("To", ""))
        for warning in choice.warnings:
            _log.warning("webhook: %s", warning)
        if self._admission.is_closed:
            return self._answers.elsewhere(request, choice)
        call = asked.get("CallSid", "")
        try:
            await self._admission.reserve(call, choice.role)
        except ModelBusy as error:
            _log.info("a call comes when all are busy: %s", error)
            return await self._answer_busy(request, asked, choice)
        except ModelUnavailable as error:
            _log.warning("a call finds no model: %s", error)
            return self._answers.failed(request)
        return self._answers.connect(request, call, choice)

    def _wishes(self, query: Mapping[str, str], asked: Mapping[str, str]) -> Mapping[str, str]:
        """What the call is to be like: as the webhook's URL says, which whoever runs the bridge
        has written, or rather as a softphone asks.

        A softphone chooses the parameters of its webhook (docs/security.md): they count only with
        our own TwiML App, which takes a token of ours.
        """
        ours = self._app_sid is not None and asked.get("ApplicationSid") == self._app_sid
        if not ours or not asked.get("From", "").startswith(CLIENT):
            return query
        return {**query, **{name: asked[name] for name in _WISHES if asked.get(name)}}

    async def _answer_busy(
        self, request: web.Request, asked: Mapping[str, str], choice: Choice
    ) -> web.Response:
        call, status = asked.get("CallSid", ""), asked.get("CallStatus", UNANSWERED)
        if not self._may_queue:
            return self._answers.busy(request, choice, status)
        if not call:
            return self._answers.reject(request, status)  # nobody who could be connected later
        try:
            await self._admission.pool.wait(call)
        except QueueFull as error:
            _log.warning("turned a call away: %s", error)
            return self._answers.reject(request, status)
        except ModelUnavailable as error:
            _log.warning("a call can't wait: %s", error)
            return self._answers.failed(request)
        return self._answers.busy(request, choice, status)
