"""Sessions of people who have logged in: signed cookies, which outlive a restart of the bridge.

A cookie says until when it is good and which it is, and is signed with a key made from the token.
So another token ends all sessions, and several bridges with the same one share them. Who logs out
is remembered until the cookie would have run out anyway; by this bridge, while it runs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

COOKIE = "console_session"

LIFETIME_S = 12 * 3600
"""From logging in, however busy."""

MAX_LOGGED_OUT = 10_000
"""Cookies remembered as logged out. The oldest are forgotten first."""

_SALT = b"personaplex-bridge console sessions 1"
_MAX_CHARS = 200


class Sessions:
    """Issues cookies and takes them back. `wall_s` is the time of day, in seconds since 1970."""

    def __init__(self, token: str, wall_s: Callable[[], float]) -> None:
        # Slow on purpose: who has stolen a cookie could else try tokens on it, millions a second.
        self._key = hashlib.scrypt(token.encode(), salt=_SALT, n=2**14, r=8, p=1)
        self._wall_s = wall_s
        self._logged_out: dict[str, float] = {}

    def issue(self) -> str:
        """A new session's cookie."""
        content = f"{int(self._wall_s()) + LIFETIME_S}.{secrets.token_urlsafe(18)}"
        return f"{content}.{self._signature(content)}"

    def is_good(self, cookie: str) -> bool:
        """Whether it is ours, hasn't run out and isn't logged out."""
        until_s = self._until_s(cookie)
        return until_s > self._wall_s() and cookie not in self._logged_out

    def end(self, cookie: str) -> None:
        """Log out. What is no session of ours is none anyway."""
        until_s, now_s = self._until_s(cookie), self._wall_s()
        if until_s <= now_s:
            return
        over = [one for one, runs_out_s in self._logged_out.items() if runs_out_s <= now_s]
        for one in over:
            del self._logged_out[one]
        while len(self._logged_out) >= MAX_LOGGED_OUT:
            del self._logged_out[next(iter(self._logged_out))]
        self._logged_out[cookie] = until_s

    def _until_s(self, cookie: str) -> float:
        """Until when it is good; 0 for what we have not signed."""
        content, _, signature = cookie.rpartition(".")
        if len(cookie) > _MAX_CHARS or not cookie.isascii():
            return 0.0
        if not hmac.compare_digest(signature, self._signature(content)):
            return 0.0
        return float(content.partition(".")[0])

    def _signature(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()
