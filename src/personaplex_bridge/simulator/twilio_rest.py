"""Twilio's REST stand-in: one account and its phone numbers, as strict as Twilio or stricter.

What Twilio does is kept: basic authentication (20003), pages as the `twilio` package asks for them,
errors as JSON with code and page, URLs and methods that are checked, a trunk that takes the place
of an application and the other way round. Unlike Twilio it refuses parameters that it doesn't know.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.caller import PhoneCall
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.simulator.report import PhoneReport

BASE = "/2010-04-01/Accounts"

DEFAULT_PAGE, LARGEST_PAGE = 50, 1000

_TEXTS = frozenset({"FriendlyName", "SmsUrl", "SmsFallbackUrl"})
_URLS = frozenset({"VoiceUrl", "VoiceFallbackUrl", "StatusCallback"})
_METHODS = frozenset({"VoiceMethod", "VoiceFallbackMethod", "StatusCallbackMethod"})
_SIDS = {"VoiceApplicationSid": "AP", "TrunkSid": "TK"}
_QUERY = frozenset(
    {"Beta", "FriendlyName", "PhoneNumber", "Origin", "PageToken", "Page", "PageSize"}
)


@dataclass
class TwilioStandin:
    """The account. Numbers are what the API says of them, by their SIDs."""

    account_sid: str = field(default_factory=lambda: "AC" + secrets.token_hex(16))
    auth_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    kind: str = "Full"
    """Trial or Full."""
    status: str = "active"
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    """Secrets by the SIDs of keys (SK…)."""
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    too_many: int = 0
    """So many requests more are answered with 429, and `retry_after_s`."""
    retry_after_s: int = 1
    lost_answers: int = 0
    """So many updates more are done, but their answers don't arrive."""
    late_s: float = 0.0
    """Updates are done so much later, also for who doesn't wait for it."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    changes: list[dict[str, str]] = field(default_factory=list, repr=False)
    """The parameters of every update, in order."""

    def add_number(self, number: str, *, voice: bool = True, **given: str) -> str:
        """Buy a number, with these fields of its; its SID."""
        sid = "PN" + secrets.token_hex(16)
        self.numbers[sid] = {
            "sid": sid,
            "account_sid": self.account_sid,
            "phone_number": number,
            "friendly_name": number,
            "capabilities": {"voice": voice, "sms": True, "mms": False, "fax": False},
            "voice_url": "https://demo.twilio.com/welcome/voice/",
            "voice_method": "POST",
            "voice_fallback_url": None,
            "voice_fallback_method": "POST",
            "voice_application_sid": None,
            "trunk_sid": None,
            "status_callback": "",
            "status_callback_method": "POST",
            "api_version": "2010-04-01",
            "origin": "twilio",
            "status": "in-use",
            "uri": f"{BASE}/{self.account_sid}/IncomingPhoneNumbers/{sid}.json",
            **given,
        }
        return sid

    def number(self, number: str) -> dict[str, Any]:
        """What the API says of a number (E.164)."""
        return next(each for each in self.numbers.values() if each["phone_number"] == number)

    async def dial(self, number: str, speech: bytes, **plan: Any) -> PhoneReport:
        """Call a number of the account: as Twilio would, where it points now.

        Raises:
            CallFailed: it points at nothing that takes calls, or the webhook fails.
        """
        found = self.number(number)
        if found["trunk_sid"] or found["voice_application_sid"] or not found["voice_url"]:
            raise CallFailed("the number's webhook isn't used: it has a trunk, an app, or no URL")
        call = CallPlan(
            found["voice_url"],
            speech,
            called=number,
            account_sid=self.account_sid,
            auth_token=self.auth_token,
            **plan,
        )
        return await PhoneCall(call, account=TwilioAccount()).run()

    def application(self) -> web.Application:
        """The aiohttp application, with the routes of api.twilio.com."""
        app = web.Application(middlewares=[self._guard])
        numbers = f"{BASE}/{{account}}/IncomingPhoneNumbers"
        app.router.add_get(f"{BASE}/{{account}}.json", self._account)
        app.router.add_get(f"{numbers}.json", self._list)
        app.router.add_get(f"{numbers}/{{sid}}.json", self._fetch)
        app.router.add_post(f"{numbers}/{{sid}}.json", self._update)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What comes before any route: limits, credentials, and errors as JSON."""
        self.asked.append((request.method, request.path))
        if self.too_many > 0:
            self.too_many -= 1
            after = {"Retry-After": str(self.retry_after_s)}
            return _error(429, 20429, "Too Many Requests", after)
        if not self._knows(request.headers.get("Authorization", "")):
            return _error(401, 20003, "Authenticate", {"WWW-Authenticate": "Basic"})
        try:
            if request.match_info.get("account", self.account_sid) != self.account_sid:
                raise web.HTTPNotFound
            return await handler(request)
        except web.HTTPNotFound:
            return _error(404, 20404, f"The requested resource {request.path} was not found")
        except web.HTTPMethodNotAllowed:
            return _error(405, 20004, "Method not allowed")
        except _Refused as refused:
            return _error(400, refused.code, str(refused))

    def _knows(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        known = {self.account_sid: self.auth_token, **self.api_keys}
        return scheme == "Basic" and bool(password) and known.get(user) == password

    async def _account(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "sid": self.account_sid,
                "friendly_name": "Stand-in",
                "type": self.kind,
                "status": self.status,
                "owner_account_sid": self.account_sid,
                "date_created": "Thu, 01 Jan 2026 00:00:00 +0000",
                "date_updated": "Thu, 01 Jan 2026 00:00:00 +0000",
                "uri": f"{BASE}/{self.account_sid}.json",
            }
        )

    async def _list(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        if unknown := set(query) - _QUERY:
            raise _Refused(20001, f"unknown parameter {min(unknown)}")
        wanted = query.get("PhoneNumber", "").replace(" ", "+")
        found = [each for each in self.numbers.values() if _fits(wanted, each["phone_number"])]
        size = _whole(query, "PageSize", DEFAULT_PAGE, 1, LARGEST_PAGE)
        page = _whole(query, "Page", 0, 0, len(found))
        begin = page * size
        more = begin + size < len(found)
        next_ = (
            urlencode({**query, "Page": page + 1, "PageToken": "PA" + found[-1]["sid"]})
            if (more)
            else None
        )
        return web.json_response(
            {
                "incoming_phone_numbers": found[begin : begin + size],
                "page": page,
                "page_size": size,
                "start": begin,
                "end": min(begin + size, len(found)) - 1,
                "uri": request.path_qs,
                "first_page_uri": f"{request.path}?{urlencode({**query, 'Page': 0})}",
                "next_page_uri": None if next_ is None else f"{request.path}?{next_}",
                "previous_page_uri": None,
            }
        )

    async def _fetch(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request))

    async def _update(self, request: web.Request) -> web.Response:
        number = self._found(request)
        if request.content_type != "application/x-www-form-urlencoded":
            raise _Refused(20001, "the parameters must be URL-encoded")
        given = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        changes: dict[str, Any] = {_snake(name): _checked(name, v) for name, v in given.items()}
        if changes.get("voice_application_sid") and changes.get("trunk_sid"):
            raise _Refused(20001, "either VoiceApplicationSid or TrunkSid")
        if changes.get("voice_application_sid"):
            changes["trunk_sid"] = None
        if changes.get("trunk_sid"):
            changes["voice_application_sid"] = None
        await asyncio.sleep(self.late_s)
        number.update(changes)
        self.changes.append(given)
        if self.lost_answers > 0 and request.transport is not None:
            self.lost_answers -= 1
            request.transport.abort()
        return web.json_response(number)

    def _found(self, request: web.Request) -> dict[str, Any]:
        try:
            return self.numbers[request.match_info["sid"]]
        except KeyError:
            raise web.HTTPNotFound from None


class _Refused(Exception):
    """HTTP 400, with Twilio's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _checked(name: str, value: str) -> str | None:
    """A parameter of an update, as the API then tells it."""
    if name in _TEXTS:
        return value
    if name in _URLS:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise _Refused(21402, f"{name} is no valid URL")
        return value
    if name in _METHODS:
        if value not in ("GET", "POST"):
            raise _Refused(21403, f"{name} is neither GET nor POST")
        return value
    if name in _SIDS:
        if value and not re.fullmatch(f"{_SIDS[name]}[0-9a-f]{{32}}", value):
            raise _Refused(20001, f"{name} is no SID of its kind")
        return value or None
    raise _Refused(20001, f"unknown parameter {name}")


def _fits(wanted: str, number: str) -> bool:
    """Parts of numbers fit, and `*` is any digit."""
    return re.search(re.escape(wanted).replace(r"\*", r"\d"), number) is not None


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = query.get(name, str(default))
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise _Refused(20001, f"{name} must be from {low} to {high}")
    return int(value)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _error(
    status: int, code: int, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(body, status=status, headers=headers)
