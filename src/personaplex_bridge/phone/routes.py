"""The phone's routes, all of them for those alone who may use the console.

GET    /phone                       the page
GET    /phone/static/{name}         its files
GET    /phone/options               personas and voices
POST   /phone/calls                 begin a call
DELETE /phone/calls/{sid}           give it up, before its media socket is open
GET    /phone/calls/{sid}/events    what happens in it
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from aiohttp import hdrs, web

from personaplex_bridge import logs
from personaplex_bridge.audio.format import FORMATS, TELEPHONE
from personaplex_bridge.config import Settings
from personaplex_bridge.console.headers import Dresser
from personaplex_bridge.console.problems import Problem
from personaplex_bridge.errors import ModelBusy, ModelUnavailable, PersonaError
from personaplex_bridge.personaplex.voices import VOICES
from personaplex_bridge.personas import Catalogue
from personaplex_bridge.phone.asking import read_asked
from personaplex_bridge.phone.assets import load_assets
from personaplex_bridge.phone.softphone import (
    IDENTITY,
    LIFETIME_S,
    SoftphoneSettings,
    is_identity,
    voice_token,
)
from personaplex_bridge.phone.watching import Calls, watch
from personaplex_bridge.twilio.twiml import MAX_PARAMETER_CHARS
from personaplex_bridge.web.browsers import BrowserCall, BrowserCalls

PAGE_PATH = "/phone"
STATIC_PATH = f"{PAGE_PATH}/static"
OPTIONS_PATH = f"{PAGE_PATH}/options"
CALLS_PATH = f"{PAGE_PATH}/calls"
TOKEN_PATH = "/voice/token"  # noqa: S105 - where it is

MAX_KNOWN_CALLS = 1000
"""Calls whose events may be asked for; the oldest are forgotten."""

MAX_WATCHERS = 200
"""Pages, or windows of one, that are told of calls at a time."""

TRY_AGAIN_S = 5
"""There is no line of waiting callers here: a page comes again."""

ACCOUNT_SID = f"AC{0:032}"
"""Twilio's `start` names an account. A browser has none."""


_log = logging.getLogger(logs.NAME)


class Guard(Protocol):
    """Who may use the phone: `console.access.ConsoleAccess`."""

    def check(self, request: web.Request) -> None:
        """Return for whoever may; raises an HTTPException for others."""
        ...


class Phone:
    """The page and its calls."""

    def __init__(
        self,
        guard: Guard,
        browser_calls: BrowserCalls,
        calls: Calls,
        catalogue: Catalogue,
        settings: Settings,
        softphone: SoftphoneSettings,
    ) -> None:
        self._guard = guard
        self._browser_calls = browser_calls
        self._calls = calls
        self._catalogue = catalogue
        self._settings = settings
        self._softphone = softphone
        self._assets = load_assets("personaplex_bridge.phone", "static")
        self._known: deque[str] = deque(maxlen=MAX_KNOWN_CALLS)
        self._watchers = 0

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application's, and the headers to their answers."""
        router = app.router
        router.add_get(PAGE_PATH, self.show_page)
        router.add_get(STATIC_PATH + "/{name}", self.send_file)
        router.add_get(OPTIONS_PATH, self.tell_options)
        router.add_post(CALLS_PATH, self.begin_call)
        router.add_delete(CALLS_PATH + "/{sid}", self.give_up)
        router.add_get(CALLS_PATH + "/{sid}/events", self.tell_events)
        router.add_post(TOKEN_PATH, self.give_token)
        dresser = Dresser((PAGE_PATH, f"{PAGE_PATH}/", TOKEN_PATH))
        app.on_response_prepare.append(dresser.dress)

    async def show_page(self, request: web.Request) -> web.Response:
        """The page."""
        self._guard.check(request)
        return self._assets["phone.html"].answer(request)

    async def send_file(self, request: web.Request) -> web.Response:
        """A script or a style of the page's."""
        self._guard.check(request)
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            raise Problem(404, "the phone has no such file")
        return asset.answer(request)

    async def tell_options(self, request: web.Request) -> web.Response:
        """The personas and voices to choose from."""
        self._guard.check(request)
        personas = [
            {
                "name": persona.name,
                "description": persona.description,
                "experimental": persona.experimental,
                "voice": persona.role.voice,
                "text_prompt": persona.role.text_prompt,
            }
            for persona in self._catalogue.personas.values()
        ]
        settings = self._settings
        body = {
            "default": settings.persona,
            "personas": personas,
            "voices": sorted(VOICES),
            "sounds": list(FORMATS),
            # On the telephone, Twilio says so before.
            "notice": settings.recording_words if settings.recording else None,
            "max_prompt_chars": MAX_PARAMETER_CHARS - len("text_prompt"),
        }
        return web.json_response(body)

    async def begin_call(self, request: web.Request) -> web.Response:
        """Reserve a model server: 201 with what the page needs for the media socket.

        422 for a persona, voice, prompt or sound that isn't usable; 503 if no server is free.
        """
        self._guard.check(request)
        asked = await read_asked(request)
        sound = asked.pop("sound", TELEPHONE.name)
        if sound not in FORMATS:
            raise Problem(422, f"there is no sound {sound[:24]!r}; there is {', '.join(FORMATS)}")
        try:
            call = await self._browser_calls.begin(request, asked, FORMATS[sound])
        except PersonaError as error:
            raise Problem(422, str(error)) from None
        except (ModelBusy, ModelUnavailable) as error:
            _log.info("a browser finds no model: %s", error)
            after = str(TRY_AGAIN_S)
            raise Problem(503, f"{error}; try again in a moment", Retry_After=after) from None
        self._known.append(call.call_sid)
        return web.json_response(_described(call), status=201)

    async def give_up(self, request: web.Request) -> web.Response:
        """Let another call have the place of one that has no media socket yet: 204."""
        self._guard.check(request)
        await self._browser_calls.give_up(self._known_sid(request))
        return web.Response(status=204)

    async def tell_events(self, request: web.Request) -> web.StreamResponse:
        """What happens in a call, as it happens, until it is over: see `watching.watch`."""
        self._guard.check(request)
        call_sid = self._known_sid(request)
        if self._watchers >= MAX_WATCHERS:
            raise Problem(503, f"{MAX_WATCHERS} pages are told of calls already", Retry_After="5")
        self._watchers += 1
        try:
            return await self._send_events(request, call_sid)
        finally:
            self._watchers -= 1

    async def give_token(self, request: web.Request) -> web.Response:
        """A token for the Voice SDK: `identity`, the name that `<Client>` rings, may be asked for.

        404 without TWILIO_APP_SID.
        """
        self._guard.check(request)
        if self._softphone.app_sid is None:
            raise Problem(404, "TWILIO_APP_SID is not set: there are no tokens for the Voice SDK")
        asked = await read_asked(request, ("identity",))
        identity = asked.get("identity", IDENTITY)
        if not is_identity(identity):
            raise Problem(422, "identity has 1 to 121 letters, digits and underscores")
        token = voice_token(self._softphone, identity)
        body = {"token": token, "identity": identity, "expires_in": LIFETIME_S}
        return web.json_response(body)

    def _known_sid(self, request: web.Request) -> str:
        call_sid = request.match_info["sid"]
        if call_sid not in self._known:
            raise Problem(404, "no such call of a browser's")
        return call_sid

    async def _send_events(self, request: web.Request, call_sid: str) -> web.StreamResponse:
        # X-Accel-Buffering: nginx would else collect events until there are 4 KB of them.
        headers = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)

        def is_gone() -> bool:  # aiohttp lets a handler go on when its connection is lost
            return request.transport is None or request.transport.is_closing()

        try:
            async for event in watch(call_sid, self._calls, is_gone):
                await response.write(event.to_bytes())
            await response.write_eof()
        except ConnectionError:
            pass  # the page is gone
        return response


def _described(call: BrowserCall) -> dict[str, object]:
    return {
        "stream_url": call.stream_url,
        "protocols": list(call.protocols),
        "account_sid": ACCOUNT_SID,
        "call_sid": call.call_sid,
        "stream_sid": call.stream_sid,
        "parameters": dict(call.parameters),
        "format": {
            "encoding": call.audio_format.encoding,
            "sampleRate": call.audio_format.rate_hz,
            "channels": 1,
        },
    }
