"""Twilio's REST API, as far as numbers need it, through the `twilio` package.

What the package leaves to its users is done here, below it: another base address, a deadline for
each request (the package has none), waiting where Twilio says so, and one kind of error. Its own
errors quote the answer, which may hold phone numbers.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from twilio.base.exceptions import TwilioException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from personaplex_bridge.errors import TwilioError
from personaplex_bridge.numbers.records import AccountInfo, Number, Routing
from personaplex_bridge.numbers.settings import AccountSettings

TIMEOUT_S = 10.0
"""For a request, without the waiting that Twilio asks for."""

ATTEMPTS = 3
LONGEST_WAIT_S = 10.0
"""Of what a 429 asks for: https://www.twilio.com/docs/usage/troubleshooting/rate-limits"""
USUAL_WAIT_S = 1.0

PAGE_SIZE = 100
MAX_NUMBERS = 1000
"""Most that are looked at."""

_TOO_MANY = 429
_silent = logging.getLogger("personaplex_bridge.twilio_package")
_silent.setLevel(logging.CRITICAL)  # the package tells every request, with what it asks for


class TwilioRest:
    """One account. Made by `open_rest`."""

    def __init__(self, client: Client, account_sid: str) -> None:
        self._account = client.api.v2010.accounts(account_sid)

    async def account(self) -> AccountInfo:
        """What kind of account it is.

        Raises:
            TwilioError: no answer, or a refusal.
        """
        found = await _asked(self._account.fetch_async())
        if not (found.sid and found.type and found.status):
            raise TwilioError("an answer that makes no sense: no account")
        return AccountInfo(found.sid, found.type, found.status)

    async def numbers(self, number: str | None = None) -> list[Number]:
        """The account's numbers, or the one that is `number` (E.164).

        Raises:
            TwilioError: no answer, or a refusal.
        """
        given = {} if number is None else {"phone_number": number}
        numbers = self._account.incoming_phone_numbers
        asked = numbers.list_async(limit=MAX_NUMBERS, page_size=PAGE_SIZE, **given)
        found = [_number(each) for each in await _asked(asked)]
        # Twilio's filter takes parts of numbers, too.
        return [each for each in found if number in (None, each.number)]

    async def number(self, sid: str) -> Number:
        """The number with this SID.

        Raises:
            TwilioError: no answer, or a refusal: code 20404 if there is none.
        """
        return _number(await _asked(self._account.incoming_phone_numbers(sid).fetch_async()))

    async def route(self, sid: str, fields: Mapping[str, str]) -> Number:
        """Set these fields of a number's `Routing`; "" takes one out. The number as it is then.

        Raises:
            TwilioError: no answer, or a refusal.
        """
        numbers = self._account.incoming_phone_numbers
        return _number(await _asked(numbers(sid).update_async(**fields)))


@asynccontextmanager
async def open_rest(settings: AccountSettings) -> AsyncIterator[TwilioRest]:
    """Ask Twilio inside the block. `settings` are complete (`settings.check_complete`)."""
    credentials, account_sid = settings.credentials, settings.account_sid
    if credentials is None or account_sid is None:
        raise ValueError("the settings of the account are not complete")
    async with _Http(settings.api_url) as http:
        # Not its own environment: settings are read once, by us.
        nothing = {"TWILIO_REGION": ""}
        client = Client(*credentials, account_sid, http_client=http, environment=nothing)
        yield TwilioRest(client, account_sid)


class _Http(AsyncTwilioHttpClient):  # type: ignore[misc]
    """The package's client, to another address and with deadlines."""

    def __init__(self, api_url: str) -> None:
        super().__init__(logger=_silent)
        self._base = urlsplit(api_url)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        **options: Any,
    ) -> Response:
        """Ask, and again when Twilio says so."""
        # As a header: the package makes it in a way that aiohttp is about to drop.
        who = {} if auth is None else {"Authorization": aiohttp.encode_basic_auth(*auth)}
        options["headers"] = {**(headers or {}), **who}
        here = urlsplit(url)._replace(scheme=self._base.scheme, netloc=self._base.netloc).geturl()
        for attempt in range(ATTEMPTS):
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    response = await super().request(method, here, **options)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                why = str(error) or "nothing for 10 s"
                raise TwilioError(f"no answer from {self._base.netloc}: {why}") from error
            if response.status_code != _TOO_MANY or attempt == ATTEMPTS - 1:
                break
            await asyncio.sleep(_wait_s(response))
        if response.status_code >= 300:
            raise _refusal(response)
        return response


async def _asked(asking: Any) -> Any:
    """What the package gives. It trusts answers, so whatever it fails with is about their shape."""
    try:
        return await asking
    except (TwilioException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TwilioError(f"an answer that makes no sense: {type(error).__name__}") from None


def _wait_s(response: Response) -> float:
    asked = str(response.headers.get("Retry-After", ""))
    wait_s = float(asked) if asked.isascii() and asked.isdigit() else USUAL_WAIT_S
    return min(wait_s, LONGEST_WAIT_S)


def _refusal(response: Response) -> TwilioError:
    """Twilio's code and its page. Not its words: they may quote what was asked for."""
    try:
        code = json.loads(response.text).get("code")
    except (ValueError, AttributeError):
        code = None
    return TwilioError.refused(response.status_code, code if isinstance(code, int) else None)


def _number(found: Any) -> Number:
    if not (found.sid and found.phone_number):
        raise TwilioError("an answer that makes no sense: no number")
    capabilities = found.capabilities if isinstance(found.capabilities, dict) else {}
    try:
        routing = Routing.parse(vars(found))
    except ValueError as error:
        raise TwilioError(f"an answer that makes no sense: {error}") from None
    return Number(
        sid=found.sid,
        number=found.phone_number,
        name=found.friendly_name or "",
        takes_calls=bool(capabilities.get("voice")),
        routing=routing,
    )
