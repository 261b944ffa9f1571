"""Who gets in: Twilio, as its signature shows, and under which address it knows us.

Whoever isn't Twilio is answered plainly, and no more often than WEBHOOK_RATE.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.audio.format import HD, TELEPHONE, AudioFormat
from personaplex_bridge.callers import Callers
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import StreamRefused
from personaplex_bridge.observing import Refused
from personaplex_bridge.twilio import signature
from personaplex_bridge.values import LOOPBACK_HOSTS
from personaplex_bridge.web.forwarded import Proxies
from personaplex_bridge.web.hosting import vouch_for
from personaplex_bridge.web.observed import ASKED, REFUSED
from personaplex_bridge.web.rates import RateLimit
from personaplex_bridge.web.tickets import Refusal, Tickets

MAX_FIELDS = 200
"""Twilio's webhooks have about thirty parameters."""

BODY_TIMEOUT_S = 10.0
"""How long a webhook's body may take. Twilio sends it at once, and waits 15 s for the answer."""

BROWSER_PROTOCOL: Final = "media-streams.browser"
HD_PROTOCOL: Final = "media-streams.browser.hd"
BROWSER_FORMATS: Final = {BROWSER_PROTOCOL: TELEPHONE, HD_PROTOCOL: HD}
"""The WebSocket subprotocols of a browser's media socket, and what its media are. Two more that it
offers are no protocols but show who it is: its CallSid and a pass, since a browser can set no other
header, and what is in a URL ends in logs.
"""

BROWSER_CALL = web.RequestKey("browser_call", str)
"""The CallSid that a browser's pass is for."""

AUDIO_FORMAT = web.RequestKey("audio_format", AudioFormat)
"""What the media of a browser's call are; Twilio's are the telephone's."""

_OFFERED = "Sec-WebSocket-Protocol"

_OWN_SITE = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of what a page of ours asks for, and of what somebody types."""

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_log = logging.getLogger(logs.NAME)


class Access:
    """Looks at requests before anything is done for them."""

    def __init__(
        self, settings: Settings, clock: Clock = SYSTEM_CLOCK, callers: Callers | None = None
    ) -> None:
        self._settings = settings
        self._callers = callers
        self._proxies = Proxies(settings.trusted_proxies)
        self._rate = RateLimit(settings.webhook_rate, clock)
        self._passes = Tickets(clock)

    async def read_webhook(self, request: web.Request) -> dict[str, str]:
        """The parameters of a webhook of Twilio's, from its form or its query.

        Raises:
            HTTPForbidden: it isn't Twilio's, is another account's, or a page of another site asks.
            HTTPTooManyRequests: it isn't signed, and the address has asked too often.
            HTTPBadRequest: it has no readable form, or no usable host or path.
            HTTPRequestTimeout: its body didn't come.
        """
        self._refuse_strangers_page(request)
        self._refuse_rebound(request)
        form = await _read_form(request)
        if not self._is_signed(request, form):
            _log.warning(
                "refused a webhook from %s: its signature is wrong for %s%s; is PUBLIC_URL right?",
                self._proxies.client_of(request),
                self.public_base(request),
                request.path,
            )
            raise web.HTTPForbidden(text="wrong signature\n")
        parameters = {**request.query, **form}
        account = self._settings.twilio_account_sid
        if account and parameters.get("AccountSid") != account:
            _log.warning("refused a webhook: it is not of the account TWILIO_ACCOUNT_SID")
            refusal = web.HTTPForbidden(text="another account\n")
            refusal[REFUSED] = Refused.ACCOUNT
            raise refusal
        request[ASKED] = parameters
        if self._callers is not None:
            self._callers.note(parameters)
        return parameters

    def check_upgrade(self, request: web.Request) -> None:
        """Refuse a media socket that is neither Twilio's nor our own page's.

        Raises:
            HTTPForbidden: its signature is wrong, or a browser's pass or page.
            HTTPTooManyRequests: and the address has asked too often.
            HTTPBadRequest: it has no usable host or path.
        """
        self._refuse_strangers_page(request)
        offered = [name.strip() for name in request.headers.get(_OFFERED, "").split(",")]
        protocols = [name for name in offered if name in BROWSER_FORMATS]
        if protocols:
            self._check_pass(request, offered, protocols[0])
            return
        if not self._is_signed(request, None):
            client = self._proxies.client_of(request)
            _log.warning("refused a media socket from %s: its signature is wrong", client)
            raise web.HTTPForbidden(text="wrong signature\n")

    def issue_pass(self, call_sid: str, audio_format: AudioFormat = TELEPHONE) -> tuple[str, ...]:
        """What a page of ours must offer as subprotocols to open the media socket of a call; good
        once, for a minute, and for media of this format alone.
        """
        protocols = (name for name, known in BROWSER_FORMATS.items() if known is audio_format)
        protocol = next(protocols)
        return protocol, call_sid, self._passes.issue(call_sid, {"protocol": protocol})

    def origin_of(self, request: web.Request) -> str:
        """Scheme and host of the page of ours that a browser's request comes from.

        Ours are the PUBLIC_URLs and, in the clear, this machine itself: DNS can lead any other
        name here, and then it is a stranger's page.

        Raises:
            HTTPForbidden: it comes from another page, or from none.
            HTTPTooManyRequests: and the address has asked too often.
            HTTPBadRequest: it has no usable host.
        """
        origin = request.headers.get("Origin", "")
        if not self._is_ours(request, origin):
            raise self._stranger(request)
        return origin

    def stream_base(self, request: web.Request) -> str:
        """As `public_base`, for WebSockets."""
        return "ws" + self.public_base(request).removeprefix("http")

    def public_base(self, request: web.Request) -> str:
        """Scheme and host as Twilio sees them: PUBLIC_URL, else what a trusted proxy forwarded.

        Without either, only a caller on this machine itself may be served in the clear: Twilio
        takes nothing but `wss`.
        """
        if self._settings.public_url is not None:
            return self._settings.public_url
        host, forwarded = self._proxies.host_of(request)
        if not _HOST.fullmatch(host):
            raise web.HTTPBadRequest(text="no usable host\n")
        local = not forwarded and _is_loopback(host)
        return f"http://{host}" if local else f"https://{host}"

    def _is_ours(self, request: web.Request, origin: str) -> bool:
        ours = {*self._settings.public_urls, self.public_base(request)}
        host, forwarded = self._proxies.host_of(request)
        if not forwarded and _is_loopback(host):
            ours.add(f"http://{host}")
        return origin in ours

    def _refuse_strangers_page(self, request: web.Request) -> None:
        """Refuse what a page of another site has somebody's browser ask for.

        Twilio names no origin. Without its token nothing else keeps such a page from calling: it
        may open WebSockets and send forms to anywhere.

        Raises:
            HTTPForbidden, HTTPTooManyRequests, HTTPBadRequest: as `origin_of` does.
        """
        origin = request.headers.get("Origin")
        if origin is None:
            is_ours = request.headers.get("Sec-Fetch-Site", "none") in _OWN_SITE
        else:
            is_ours = self._is_ours(request, origin)
        if not is_ours:
            raise self._stranger(request)

    def _refuse_rebound(self, request: web.Request) -> None:
        """Refuse a GET that may come from a page whose name DNS has led here: it looks like
        anyone's, while POSTs and upgrades name their origin. Signed ones need no such care.

        Raises:
            HTTPForbidden, HTTPTooManyRequests: as `origin_of` does.
        """
        if self._settings.twilio_auth_tokens or request.method == "POST":
            return
        host = request.headers.get("Host", "").lower()
        names = {urlsplit(url).netloc.lower() for url in self._settings.public_urls}
        if host and not (host in names or _is_address(host)):
            raise self._stranger(request)

    def _stranger(self, request: web.Request) -> web.HTTPForbidden:
        """Counts against its sender's rate, as whatever isn't Twilio's does."""
        self._count(request)
        _log.warning(
            "refused a browser at %s: it shows no page of ours; is PUBLIC_URL right?",
            self._proxies.client_of(request),
        )
        refusal = web.HTTPForbidden(text="not a page of this bridge\n")
        refusal[REFUSED] = Refused.ORIGIN
        return refusal

    def _check_pass(self, request: web.Request, offered: list[str], protocol: str) -> None:
        """A browser can't sign. What a page of ours has got from us a moment ago is as good."""
        self.origin_of(request)
        call_sid, token = ([name for name in offered if name != protocol] + ["", ""])[:2]
        try:
            self._passes.redeem(token, call_sid, {"protocol": protocol})
        except StreamRefused as error:
            self._count(request)
            client = self._proxies.client_of(request)
            _log.warning("refused a browser's media socket from %s: %s", client, error)
            refusal = web.HTTPForbidden(text=f"{error}\n")
            refusal[REFUSED] = Refused[f"TOKEN_{Refusal(error.reason).name}"]
            raise refusal from None
        request[BROWSER_CALL] = call_sid
        request[AUDIO_FORMAT] = BROWSER_FORMATS[protocol]

    def _is_signed(self, request: web.Request, form: Mapping[str, str] | None) -> bool:
        """Whether Twilio has signed it, or need not; `form` is None for an upgrade.

        What isn't signed counts against its sender's rate. What is, never does.
        """
        if not request.raw_path.startswith("/"):
            raise web.HTTPBadRequest(text="no usable path\n")  # a whole URL, as proxies are asked
        urls = self._signed_urls(request, is_upgrade=form is None)
        signed = request.headers.get(signature.HEADER, "")
        tokens = self._settings.twilio_auth_tokens
        if any(_is_right(token, url, form, signed) for token in tokens for url in urls):
            if form is not None:  # an upgrade is signed the same each time: see `tickets`
                vouch_for(request)
            return True
        self._count(request)
        return not tokens

    def _signed_urls(self, request: web.Request, *, is_upgrade: bool) -> list[str]:
        """The URLs that Twilio may have been given. Media sockets are this bridge's own; webhooks
        may come under the other PUBLIC_URLs too, such as a load balancer's.
        """
        if is_upgrade:
            return [self.stream_base(request) + request.raw_path]
        bases = self._settings.public_urls or (self.public_base(request),)
        return [base + request.raw_path for base in bases]

    def _count(self, request: web.Request) -> None:
        client = self._proxies.client_of(request)
        wait_s = self._rate.take(client)
        if wait_s:
            _log.debug("refused a request from %s: more than WEBHOOK_RATE", client)
            after = {"Retry-After": str(math.ceil(wait_s))}
            raise web.HTTPTooManyRequests(headers=after, text="too many requests\n")


def _name(host: str) -> str:
    """Without port and brackets; empty if it is no host."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def _is_loopback(host: str) -> bool:
    return _name(host) in LOOPBACK_HOSTS


def _is_address(host: str) -> bool:
    """Whether no DNS was asked for it, or only this machine's own."""
    try:
        ipaddress.ip_address(_name(host))
    except ValueError:
        return _is_loopback(host)
    return True


def _is_right(token: str, url: str, form: Mapping[str, str] | None, signed: str) -> bool:
    if form is None:
        return signature.upgrade_is_signed(token, url, signed)
    return signature.webhook_is_signed(token, url, form, signed)


async def _read_form(request: web.Request) -> dict[str, str]:
    """The POST parameters, as Twilio sends them: URL-encoded UTF-8.

    Anything else gets 400: anyone can send anything here before a signature is checked.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = (await request.read()).decode("utf-8")
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="no body in time\n") from None
    except (ValueError, ConnectionError, web.RequestPayloadError):
        raise web.HTTPBadRequest(text="no readable form\n") from None
