"""What requests come to, for whoever looks on.

Routes and `access` leave notes on requests and responses; a middleware reads them, in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from personaplex_bridge.observing import Answer, Observer, Refused, Several, Webhook

ANSWER = web.ResponseKey("answer", Answer)
REFUSED = web.ResponseKey("refused", Refused)
"""Why, where the status doesn't tell."""
ASKED: web.RequestKey[Mapping[str, str]] = web.RequestKey("asked", Mapping)
"""The parameters of a webhook that was let in."""
HELD_S = web.RequestKey("held_s", float)
"""How long a caller who leaves the queue has held."""

_BY_STATUS = {
    400: Refused.MALFORMED,
    403: Refused.SIGNATURE,
    404: Refused.NOT_FOUND,
    405: Refused.NOT_FOUND,
    408: Refused.NO_BODY,
    413: Refused.TOO_LARGE,
    429: Refused.RATE,
}


def observed_by(observer: Observer | Several) -> Middleware:
    """The middleware that tells an observer of webhooks and of refused requests."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s = _now()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            if error.status in _BY_STATUS:
                observer.refused(error.get(REFUSED, _BY_STATUS[error.status]))
            raise
        if ANSWER in response:
            observer.webhook_answered(_webhook(request, response[ANSWER], _now() - began_s))
        return response

    return observe


def _webhook(request: web.Request, answer: Answer, took_s: float) -> Webhook:
    asked, resource = request.get(ASKED, {}), request.match_info.route.resource
    return Webhook(
        asked.get("CallSid", ""),
        resource.canonical if resource is not None else "",
        answer,
        took_s,
        request.get(HELD_S),
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
