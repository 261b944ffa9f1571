"""Twilio's requests in a call: webhooks, signed if there is a token, and sounds to be played."""

from __future__ import annotations

import io
from collections.abc import Mapping

import aiohttp
from multidict import MultiDict

from personaplex_bridge.audio.files import read_as_mulaw
from personaplex_bridge.errors import AudioError
from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.twilio import signature

WEBHOOK_TIMEOUT_S = 15.0
"""Twilio gives a webhook so long."""

SOUND_TYPES = frozenset(
    f"audio/{kind}"
    for kind in ["mpeg", "wav", "wave", "x-wav", "aiff", "x-aifc", "x-aiff", "x-gsm", "gsm", "ulaw"]
)
"""What `<Play>` takes (error 13420 for others)."""


class Asking:
    """Asks on behalf of one call."""

    def __init__(
        self, http: aiohttp.ClientSession, plan: CallPlan, call_sid: str, account: TwilioAccount
    ) -> None:
        self._http = http
        self._plan = plan
        self._call_sid = call_sid
        self._account = account

    async def ask(self, url: str, parameters: Mapping[str, str], status: str) -> str:
        """Post a webhook with Twilio's own parameters and these; what it answers.

        Raises:
            CallFailed: no answer in time, or none that Twilio would accept.
        """
        plan = self._plan
        form = {
            "CallSid": self._call_sid,
            "AccountSid": plan.account_sid,
            "From": plan.caller,
            "To": plan.called,
            "CallStatus": status,
            "Direction": "inbound",
            "ApiVersion": "2010-04-01",
            **parameters,
        }
        try:
            async with self._http.post(
                plan.route.target(url),
                data=form,
                headers=self.signed(url, form),
                timeout=aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S),
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"no answer from {url}: {error}") from error
        if response.status != 200:
            raise CallFailed(f"{url} answered HTTP {response.status}: {text[:200]}")
        return text

    async def fetch_sound(self, url: str) -> bytes:
        """A sound file as mu-law; from memory, if it may be kept. Twilio doesn't sign these.

        Raises:
            CallFailed: there is none that Twilio could play.
        """
        if (kept := self._account.sound(url)) is not None:
            return kept
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S)
        try:
            route = self._plan.route
            async with self._http.get(
                route.target(url), headers=route.headers(url), timeout=timeout
            ) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"no sound at {url}: {error}") from error
        if response.status != 200:
            raise CallFailed(f"{url} answered HTTP {response.status} (error 11200)")
        if response.content_type not in SOUND_TYPES:
            raise CallFailed(f"{url} is {response.content_type}, no sound (error 13420)")
        try:
            mulaw = read_as_mulaw(io.BytesIO(data))
        except AudioError as error:
            raise CallFailed(f"{url} can't be played: {error}") from error
        if "max-age" in response.headers.get("Cache-Control", ""):
            self._account.keep(url, mulaw)
        return mulaw

    def signed(self, url: str, form: Mapping[str, str]) -> MultiDict[str]:
        """The headers of a request to a URL: the signature, if the plan has a token."""
        route, token = self._plan.route, self._plan.auth_token
        headers = MultiDict(route.headers(url))
        if token:
            headers[signature.HEADER] = signature.sign(token, route.signed_form(url), form)
        return headers
