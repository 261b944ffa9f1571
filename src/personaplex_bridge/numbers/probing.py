"""Asking a bridge at its public address, as Twilio would: is it there, and does it know Twilio?

A signed request proves that the bridge computes the signature from the same address as Twilio does.
It goes to the voicemail's action, which checks who asks and then does nothing but hang up: asking
/voice/inbound would take a model's line from callers for 15 s, and make the model take in a prompt.
All webhooks check signatures in one place, so what is true of one is true of all.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import orjson

from personaplex_bridge.findings import Finding
from personaplex_bridge.numbers.settings import AccountSettings
from personaplex_bridge.twilio import signature
from personaplex_bridge.web.paths import RECORDED_PATH

HEALTH_PATH = "/healthz"

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024

_HEADERS = {"ngrok-skip-browser-warning": "1"}
"""Free ngrok addresses show a page of their own to what looks like a browser."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: HTTP's status, or None and why there was no answer."""

    status: int | None
    text: str
    content_type: str = ""


class Prober:
    """Asks the bridge that should be at `base` (https://host)."""

    def __init__(self, base: str, account: AccountSettings) -> None:
        self._base = base
        self._account = account

    async def is_there(self, instance: str | None = None) -> Finding:
        """Whether a bridge answers; if `instance` is given, that very one."""
        what, where = "public address", urlsplit(self._base).netloc
        answer = await self._ask("GET", HEALTH_PATH)
        if answer.status is None:
            return Finding(what, f"{where}: {answer.text}", "is the tunnel or proxy running?")
        found = _health(answer)
        if found is None:
            mend = "the address must lead to the bridge: is the tunnel's port the bridge's?"
            return Finding(what, f"{where} answers HTTP {answer.status}, and is no bridge", mend)
        if instance is not None and found.get("instance") != instance:
            mend = "end the other one, or take PUBLIC_URL out of .env if it is another bridge's"
            return Finding(what, f"{where} leads to another bridge than this one", mend)
        return Finding(what, f"{where} answers")

    async def refuses_strangers(self) -> Finding:
        """Whether an unsigned webhook is refused."""
        answer = await self._webhook(None)
        if answer.status == 403:
            return Finding("unsigned webhook", "refused")
        mend = "set TWILIO_AUTH_TOKEN there, or anyone who finds the address can call"
        return Finding("unsigned webhook", _not_refused(answer), mend)

    async def knows_twilio(self) -> Finding:
        """Whether a webhook signed with the account's token is taken for Twilio's."""
        what, answer = "signed webhook", await self._webhook(self._account.auth_tokens[0])
        if answer.status == 200 and "<Response" in answer.text:
            return Finding(what, "accepted: the signature is right for this address")
        if answer.status == 403 and "account" in answer.text:
            mend = "the bridge's TWILIO_ACCOUNT_SID is another account's"
        elif answer.status == 403:
            mend = (
                "the bridge's TWILIO_AUTH_TOKEN must be this account's, and its PUBLIC_URL exactly "
                f"{self._base}"
            )
        else:
            mend = "look into the bridge's log"
        return Finding(what, _not_accepted(answer), mend)

    async def _webhook(self, token: str | None) -> Answer:
        """Post what Twilio would, for a call that doesn't exist."""
        url = self._base + RECORDED_PATH
        form = {
            "CallSid": "CA" + secrets.token_hex(16),
            "AccountSid": self._account.account_sid or "",
        }
        signed = {} if token is None else {signature.HEADER: signature.sign(token, url, form)}
        return await self._ask("POST", RECORDED_PATH, form, signed)

    async def _ask(
        self,
        method: str,
        path: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                aiohttp.ClientSession(headers=_HEADERS) as http,
                http.request(
                    method, self._base + path, data=form, headers=headers, allow_redirects=False
                ) as answer,
            ):
                text = (await _body(answer)).decode("utf-8", "replace")
                return Answer(answer.status, text, answer.content_type)
        except TimeoutError:
            return Answer(None, f"no answer within {TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(None, f"no answer: {error}")


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """As much of it as is worth looking at; anyone may have answered."""
    body = b""
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) >= MAX_ANSWER_BYTES:
            break
    return body[:MAX_ANSWER_BYTES]


def _health(answer: Answer) -> dict[str, object] | None:
    """A bridge's own word of its health; None if it isn't one's."""
    if answer.status != 200 or answer.content_type != "application/json":
        return None
    try:
        found = orjson.loads(answer.text)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("status") != "ok" or "sessions" not in found:
        return None
    return found


def _not_refused(answer: Answer) -> str:
    if answer.status is None:
        return answer.text
    return f"HTTP {answer.status} instead of 403: anyone is let in"


def _not_accepted(answer: Answer) -> str:
    return answer.text if answer.status is None else f"HTTP {answer.status} instead of TwiML"
