"""The softphone: a page that makes and takes calls through an account at Twilio.

GET  /softphone            the page
GET  /softphone/options    whether it can be used, and what is missing

Its files are the phone's (`static/`), its token comes from POST /voice/token.
"""

from __future__ import annotations

from aiohttp import web

from personaplex_bridge.config import Settings
from personaplex_bridge.console.headers import Dresser, content_security_policy
from personaplex_bridge.phone.assets import load_assets
from personaplex_bridge.phone.routes import Guard
from personaplex_bridge.phone.softphone import IDENTITY, SoftphoneSettings
from personaplex_bridge.web.paths import WEBHOOK_PATH

PAGE_PATH = "/softphone"
OPTIONS_PATH = f"{PAGE_PATH}/options"

EDGES = (
    *("roaming", "ashburn", "dublin", "frankfurt", "sao-paulo", "singapore", "sydney", "tokyo"),
    "umatilla",
)
"""Where Twilio's signalling is: the SDK begins at `roaming`, which names the edge that it must come
back to if the connection breaks off in a call.
"""

HOMES = ("", "us1.", "ie1.", "au1.")
"""Twilio's regions, as in the names of the hosts that take figures of calls (Voice Insights)."""

SOUNDS = ("https://sdk.twilio.com", "https://media.twiliocdn.com")
"""Ringing and keys; the second is where the first may redirect to."""

POLICY = content_security_policy(
    {
        "connect-src": (
            *(f"wss://voice-js.{edge}.twilio.com" for edge in EDGES),
            *(f"https://eventgw.{home}twilio.com" for home in HOMES),
            *SOUNDS,
        ),
        "media-src": ("mediastream:", *SOUNDS),
    }
)
"""As every page's, and the hosts that the SDK's README names; its script is ours."""


class SoftphonePage:
    """The routes, for those alone who may use the console."""

    def __init__(self, guard: Guard, settings: Settings, softphone: SoftphoneSettings) -> None:
        self._guard = guard
        self._settings = settings
        self._softphone = softphone
        self._page = load_assets("personaplex_bridge.phone", "static")["softphone.html"]

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application's, and the headers to their answers."""
        app.router.add_get(PAGE_PATH, self.show_page)
        app.router.add_get(OPTIONS_PATH, self.tell_options)
        app.on_response_prepare.append(Dresser((PAGE_PATH,), POLICY).dress)
        app.on_response_prepare.append(Dresser((f"{PAGE_PATH}/",)).dress)

    async def show_page(self, request: web.Request) -> web.Response:
        """The page."""
        self._guard.check(request)
        return self._page.answer(request)

    async def tell_options(self, request: web.Request) -> web.Response:
        """Which settings a token takes and which of them are there, never their values; and where
        the TwiML App must lead.
        """
        self._guard.check(request)
        softphone = self._softphone
        needed = {
            "TWILIO_ACCOUNT_SID": softphone.account_sid,
            "TWILIO_API_KEY": softphone.api_key,
            "TWILIO_API_SECRET": softphone.api_secret,
            "TWILIO_APP_SID": softphone.app_sid,
            "TWILIO_AUTH_TOKEN": self._settings.twilio_auth_tokens,
            "PUBLIC_URL": self._settings.public_url,
        }
        public = self._settings.public_url
        body = {
            "is_ready": softphone.app_sid is not None,
            "settings": {name: bool(value) for name, value in needed.items()},
            "voice_url": None if public is None else public + WEBHOOK_PATH,
            "identity": IDENTITY,
        }
        return web.json_response(body)
