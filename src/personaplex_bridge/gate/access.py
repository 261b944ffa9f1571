"""Who gets in: whoever has one of the tokens."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from enum import Enum


class Pass(Enum):
    """What a request shows."""

    GOOD = "good"
    NONE = "none"
    """No token at all."""
    BAD = "bad"


class Tokens:
    """The tokens of GATE_TOKEN; with none of them everybody gets in."""

    def __init__(self, tokens: Collection[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def judge(self, authorization: str | None) -> Pass:
        """What the value of an Authorization header is worth (RFC 6750, section 2.1).

        Every token is compared, in constant time, so that the time taken tells nothing of them.
        """
        if not self._tokens:
            return Pass.GOOD
        if authorization is None:
            return Pass.NONE
        scheme, _, given = authorization.partition(" ")
        shown = given.strip().encode("utf-8", "surrogateescape")
        fits = [hmac.compare_digest(shown, token) for token in self._tokens]
        return Pass.GOOD if any(fits) and scheme.lower() == "bearer" else Pass.BAD
