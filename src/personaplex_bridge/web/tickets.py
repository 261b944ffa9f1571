"""One-time tokens: a media stream proves that it comes from its own call's webhook.

Twilio's signature of an upgrade covers nothing but the URL, so it is the same for every call
(https://www.twilio.com/docs/usage/security): whoever has seen one can open media sockets, and say
in `start` whatever they like. Therefore each TwiML with a `<Stream>` carries a token as a
`<Parameter>`, which comes back in `start.customParameters`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from personaplex_bridge.clock import Clock
from personaplex_bridge.errors import StreamRefused
from personaplex_bridge.logs import ONE_TIME_MARK

TOKEN_PARAMETER = "token"  # noqa: S105 - its name
"""The `<Parameter>` it travels in."""

LIFETIME_S = 60.0
"""Twilio opens the stream as soon as it has read the TwiML."""

REMEMBERED_S = 600.0
"""A ticket is kept for so long, so that a late or second use is told from an invented token."""

MAX_TICKETS = 10_000
"""The oldest are forgotten: at 160 calls a second none of them was still good."""

_NAME_CHARS = len(ONE_TIME_MARK) + 11
"""The beginning of a token, by which its ticket is found. The 32 characters after it are secret."""


class Refusal(StrEnum):
    """Why a stream is not let in."""

    MISSING = "no one-time token"
    UNKNOWN = "unknown one-time token"
    OTHER_CALL = "one-time token of another call"
    USED = "one-time token used before"
    EXPIRED = "one-time token expired"
    ALTERED = "parameters other than its webhook's"


@dataclass(slots=True)
class _Ticket:
    """What is known of a token that was issued; not the token."""

    digest: bytes
    call_sid: str
    parameters: bytes
    """Their digest."""
    issued_s: float
    is_used: bool = False


class Tickets:
    """Issues tokens, and takes each back once, from the stream that it was issued for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tickets: dict[str, _Ticket] = {}  # the oldest first

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._tickets)

    def issue(self, call_sid: str, parameters: Mapping[str, str]) -> str:
        """A token for the stream of one call that has these parameters, and no others beside it."""
        now_s = self._clock.now()
        self._forget(now_s)
        token = ONE_TIME_MARK + secrets.token_urlsafe(32)
        ticket = _Ticket(_digest(token), call_sid, _digest_of(parameters), now_s)
        self._tickets[token[:_NAME_CHARS]] = ticket
        return token

    def redeem(self, token: str, call_sid: str, parameters: Mapping[str, str]) -> None:
        """Use up a token. A refused attempt doesn't: the call it was issued for may still come.

        Raises:
            StreamRefused: it isn't this call's, isn't good any more, or `parameters` aren't those
                it was issued for; the reason is a `Refusal`.
        """
        refusal = self._refusal(token, call_sid, parameters)
        if refusal is not None:
            raise StreamRefused(refusal)
        self._tickets[token[:_NAME_CHARS]].is_used = True

    def _refusal(self, token: str, call_sid: str, parameters: Mapping[str, str]) -> Refusal | None:
        if not token:
            return Refusal.MISSING
        ticket = self._tickets.get(token[:_NAME_CHARS])
        # In constant time: how long it takes doesn't tell how much of a guess was right.
        if ticket is None or not hmac.compare_digest(ticket.digest, _digest(token)):
            return Refusal.UNKNOWN
        if ticket.call_sid != call_sid:
            return Refusal.OTHER_CALL
        if ticket.is_used:
            return Refusal.USED
        if self._clock.now() - ticket.issued_s > LIFETIME_S:
            return Refusal.EXPIRED
        if not hmac.compare_digest(ticket.parameters, _digest_of(parameters)):
            return Refusal.ALTERED
        return None

    def _forget(self, now_s: float) -> None:
        """Make room for one more."""
        while self._tickets:
            name, oldest = next(iter(self._tickets.items()))
            if len(self._tickets) < MAX_TICKETS and now_s - oldest.issued_s <= REMEMBERED_S:
                return
            del self._tickets[name]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _digest_of(parameters: Mapping[str, str]) -> bytes:
    return _digest(json.dumps(parameters, sort_keys=True))
