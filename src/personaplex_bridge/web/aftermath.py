"""What Twilio asks when something of ours is over: the stream, a forwarded call, a voicemail."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.record import Ending
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.answers import Answers
from personaplex_bridge.web.paths import AFTER_PATH, FORWARDED_PATH, RECORDED_PATH

HUNG_UP, SAID_GOODBYE = "operator_hung_up", "operator_goodbye"
FORWARDED = "operator_forwarded"
"""The kinds of endings that whoever runs the bridge has asked for: nothing is said; AGAIN_WORDS
are; FORWARD_TO has the call.
"""

IN_ORDER, GOING_AWAY = 1000, 1001
"""Close codes of streams (RFC 6455) that no fault has ended."""

_ANSWERED = frozenset({"completed", "answered"})

EndingOf = Callable[[str], Ending | None]
"""How a call's stream ended, by the call's SID; None if that isn't known."""

_log = logging.getLogger(logs.NAME)


class Aftermath:
    """The routes of calls that have left us, for one reason or another."""

    def __init__(self, access: Access, answers: Answers, ending_of: EndingOf) -> None:
        self._access = access
        self._answers = answers
        self._ending_of = ending_of

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes to an application's."""
        router.add_post(AFTER_PATH, self.after_stream)
        router.add_post(FORWARDED_PATH, self.after_forwarding)
        router.add_post(RECORDED_PATH, self.after_recording)

    async def after_stream(self, request: web.Request) -> web.Response:
        """Hang up after a stream that ended in order; else don't leave the caller alone."""
        asked = await self._access.read_webhook(request)
        ending = self._ending_of(asked.get("CallSid", ""))
        code = None if ending is None else ending.close_code
        kind = None if ending is None else ending.kind
        if kind == FORWARDED:
            return self._answers.forward(request)
        if code == IN_ORDER or kind == HUNG_UP:
            return self._answers.hang_up()
        if code == GOING_AWAY:
            return self._answers.call_again()
        # Unknown: it was another bridge's, or this one has been started anew since.
        how = "in a way not known here" if ending is None else ending.reason
        _log.warning("a call goes on without a model; its stream ended: %s", how)
        return self._answers.failed(request)

    async def after_forwarding(self, request: web.Request) -> web.Response:
        """Hang up after a call that somebody has answered."""
        asked = await self._access.read_webhook(request)
        status = asked.get("DialCallStatus", "")
        if status in _ANSWERED:
            return self._answers.hang_up()
        _log.warning("a forwarded call came to nothing: %.20r", status)
        return self._answers.unanswered(request)

    async def after_recording(self, request: web.Request) -> web.Response:
        """Hang up; the recording is at Twilio."""
        await self._access.read_webhook(request)
        return self._answers.hang_up()
