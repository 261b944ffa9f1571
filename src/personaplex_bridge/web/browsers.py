"""Calls that a page of ours begins, without Twilio: what the webhook is for a telephone."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.callers import BROWSER, Callers
from personaplex_bridge.errors import ModelUnavailable, PersonaError
from personaplex_bridge.personas import Choice
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.admission import Admission
from personaplex_bridge.web.paths import STREAM_PATH
from personaplex_bridge.web.tickets import TOKEN_PARAMETER, Tickets

Choose = Callable[[Mapping[str, str], str], Choice]

_log = logging.getLogger(logs.NAME)


@dataclass(frozen=True, slots=True)
class BrowserCall:
    """A call for which a model server is reserved, and what its page must say to have it."""

    call_sid: str
    stream_sid: str
    stream_url: str
    """Under the address that the page itself came from."""
    protocols: tuple[str, ...] = field(repr=False)
    """The subprotocols to offer on the upgrade: they show who it is."""
    parameters: Mapping[str, str] = field(repr=False)
    """The `customParameters` of `start`, a one-time token among them."""
    audio_format: AudioFormat
    """What its media are, both ways: the `mediaFormat` of `start`."""


class BrowserCalls:
    """Lets a call of a page's in, if there is a model server for it."""

    def __init__(
        self,
        access: Access,
        admission: Admission,
        choose: Choose,
        tickets: Tickets,
        callers: Callers,
    ) -> None:
        self._access = access
        self._admission = admission
        self._choose = choose
        self._tickets = tickets
        self._callers = callers

    async def begin(
        self,
        request: web.Request,
        asked: Mapping[str, str],
        audio_format: AudioFormat = TELEPHONE,
    ) -> BrowserCall:
        """Reserve a model server. `asked` may hold `persona`, `voice` and `text_prompt`.

        Unlike a caller on the telephone, who asks for something that isn't there is told so.

        Raises:
            HTTPForbidden: the request isn't a page's of ours.
            PersonaError: there is no such persona or voice, or the prompt is not usable.
            ModelBusy: all servers are taken, others are ahead in line, or the bridge is full.
            ModelUnavailable: every server is down, or the bridge takes no more calls.
        """
        origin = self._access.origin_of(request)
        choice = self._choose(asked, "")
        if choice.warnings:
            raise PersonaError("; ".join(choice.warnings))
        if self._admission.is_closed:
            raise ModelUnavailable("the bridge takes no more calls: it is being shut down")
        call_sid = f"CA{secrets.token_hex(16)}"
        await self._admission.reserve(call_sid, choice.role)
        self._callers.note({"CallSid": call_sid, "From": BROWSER})
        _log.info("a browser calls: persona %s, sound %s", choice.persona, audio_format.name)
        token = self._tickets.issue(call_sid, choice.parameters)
        return BrowserCall(
            call_sid,
            f"MZ{secrets.token_hex(16)}",
            "ws" + origin.removeprefix("http") + STREAM_PATH,
            self._access.issue_pass(call_sid, audio_format),
            {**choice.parameters, TOKEN_PARAMETER: token},
            audio_format,
        )

    async def give_up(self, call_sid: str) -> None:
        """Give back what was reserved for a call whose media socket isn't open yet."""
        await self._admission.pool.leave(call_sid)
