"""What Twilio asks when a call comes in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ModelBusy, ModelUnavailable, QueueFull
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import Choice
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.answers import Answers
from personaplex_bridge.web.paths import WEBHOOK_PATH

RESERVE_TIMEOUT_S = 10.0
"""Twilio waits 15 s for the answer."""

Choose = Callable[[Mapping[str, str], str], Choice]
"""The role for a call: by what was asked for, and the number called."""

IsLeaving = Callable[[], bool]
"""Whether the bridge is shutting down, and takes no more calls."""

_log = logging.getLogger(logs.NAME)


class Webhooks:
    """Lets a call in, if there is a model server for it."""

    def __init__(
        self,
        access: Access,
        answers: Answers,
        pool: ModelPool,
        choose: Choose,
        settings: Settings,
        is_leaving: IsLeaving,
    ) -> None:
        self._access = access
        self._answers = answers
        self._pool = pool
        self._choose = choose
        self._may_queue = settings.when_busy == "queue"
        self._is_leaving = is_leaving

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route to an application's."""
        router.add_get(WEBHOOK_PATH, self.answer_call)
        router.add_post(WEBHOOK_PATH, self.answer_call)

    async def answer_call(self, request: web.Request) -> web.Response:
        """Connect the call to the media socket, or do what is to be done when that can't be."""
        asked = await self._access.read_webhook(request)
        choice = self._choose(request.query, asked.get("To", ""))
        for warning in choice.warnings:
            _log.warning("webhook: %s", warning)
        if self._is_leaving():
            return self._answers.elsewhere(choice)
        call = asked.get("CallSid", "")
        try:
            await reserve(self._pool, call, choice.role)
        except ModelBusy as error:
            return await self._answer_busy(request, call, choice, error)
        except ModelUnavailable as error:
            _log.warning("a call finds no model: %s", error)
            return self._answers.failed(request)
        return self._answers.connect(request, call, choice)

    async def _answer_busy(
        self, request: web.Request, call: str, choice: Choice, why: ModelBusy
    ) -> web.Response:
        _log.info("a call comes when all are busy: %s", why)
        if not self._may_queue:
            return self._answers.busy(request, choice)
        if not call:
            return self._answers.reject()  # nobody who could be connected later
        try:
            await self._pool.wait(call)
        except QueueFull as error:
            _log.warning("turned a call away: %s", error)
            return self._answers.reject()
        except ModelUnavailable as error:
            _log.warning("a call can't wait: %s", error)
            return self._answers.failed(request)
        return self._answers.busy(request, choice)


async def reserve(pool: ModelPool, call: str, role: Role, *, patient: bool = True) -> None:
    """Take a model server for a call, in the time that Twilio gives.

    Who isn't `patient` comes again: the pool doesn't wait for what another bridge is giving up.

    Raises:
        ModelBusy: all are taken, or others are ahead in line.
        ModelUnavailable: every one is down, or nobody can say in time.
    """
    try:
        async with asyncio.timeout(RESERVE_TIMEOUT_S):
            await pool.reserve(call, role, patient=patient)
    except TimeoutError:
        raise ModelUnavailable("no model server could be reserved in time") from None
