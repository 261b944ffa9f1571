"""Who may use the console, its API and the phone in the browser.

With CONSOLE_TOKEN whoever shows it: programs as a bearer token, people by logging in, once in 12
hours. Without it, whoever sits at this machine; and if the bridge listens on other addresses than
this machine's own, nobody: then there is no console.

A tunnel's or a proxy's requests come from this machine too. They are told by the headers that all
of them add, and by the name that was asked for; the latter also keeps out other sites whose name
leads to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from aiohttp import web

from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.console.cookies import COOKIE, LIFETIME_S, Sessions
from personaplex_bridge.console.problems import refused
from personaplex_bridge.values import LOOPBACK_HOSTS
from personaplex_bridge.web.forwarded import Proxies
from personaplex_bridge.web.hosting import vouch_for
from personaplex_bridge.web.rates import RateLimit

LOGIN_PATH = "/console/login"
DOCS_PATH = "/api/docs"

GUESSES, GUESS_EVERY_S = 5, 10.0
"""Wrong tokens from one address at once, and how often one more after that."""

WRONG_TOKEN = "that is not CONSOLE_TOKEN"  # noqa: S105 - says so

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_FORWARDING = ("forwarded", "via", "x-forwarded-", "x-real-ip", "x-original-host", "cf-")
"""Beginnings of the headers that proxies and tunnels add."""
_OWN_SITE = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of what a page of ours asks for, and of what somebody types."""


class ConsoleAccess:
    """Looks at requests for the console before anything is done for them."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock = SYSTEM_CLOCK,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        token = settings.console_token
        self._digest = None if token is None else _digest(token)
        self._sessions = None if token is None else Sessions(token, wall_s)
        self._is_local = settings.host in LOOPBACK_HOSTS
        self._public = frozenset(settings.public_urls)
        self._proxies = Proxies(settings.trusted_proxies)
        self._guesses = RateLimit(1 / GUESS_EVERY_S, clock, GUESSES)

    @property
    def is_there(self) -> bool:
        """Whether anybody may use the console at all; else don't serve it."""
        return self._digest is not None or self._is_local

    @property
    def asks_for_token(self) -> bool:
        """Whether there is a CONSOLE_TOKEN, and so a way to log in and out."""
        return self._digest is not None

    def check(self, request: web.Request) -> None:
        """Refuse who may not, and requests that another site has a browser make.

        Raises:
            HTTPSeeOther: a person has to log in, and is sent there.
            Problem: 401 without a token or session, 403 for another site's request or from another
                machine without CONSOLE_TOKEN, 429 after too many wrong tokens.
        """
        if self._digest is None:
            self._check_is_here(request)
            self.check_origin(request)
        elif "Authorization" in request.headers:
            self._check_bearer(request, self._digest)
        else:
            self._check_session(request)
            self.check_origin(request)
        vouch_for(request)

    def check_origin(self, request: web.Request) -> None:
        """Refuse what a page of another site asks for in a visitor's name.

        Browsers say from where they ask: in `Origin` for all that changes something, for
        WebSockets and for other sites' scripts, and mostly in `Sec-Fetch-Site`. People may come
        from anywhere, to look at a page; but not to the API, where a link does something.

        Raises:
            Problem: 403.
        """
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "none")
        if _is_visit(request) and not _is_api(request):
            return
        if origin is not None and not self._is_ours(origin, request):
            raise refused(403, "a page of another site asks for this")
        if origin is None and site not in _OWN_SITE:
            raise refused(403, "a page of another site asks for this")

    def log_in(self, request: web.Request, token: str) -> web.Response:
        """A session for whoever has the token: the answer has its cookie, and no place to go yet.

        Raises:
            Problem: 403 for a wrong token, or another site's form; 429 after too many.
        """
        self.check_origin(request)
        if self._digest is None or self._sessions is None:
            raise refused(404, "there is no CONSOLE_TOKEN to log in with")
        self._check_token(request, token, self._digest, 403)
        vouch_for(request)
        response = web.Response(status=303)
        response.set_cookie(
            COOKIE,
            self._sessions.issue(),
            max_age=LIFETIME_S,
            path="/",
            secure=self._is_https(request),
            httponly=True,
            samesite="Strict",
        )
        return response

    def log_out(self, request: web.Request) -> web.Response:
        """End the session; the answer takes the cookie away.

        Raises:
            Problem: 403 for another site's form.
        """
        self.check_origin(request)
        if self._sessions is not None:
            self._sessions.end(request.cookies.get(COOKIE, ""))
        response = web.Response(status=303, headers={"Location": LOGIN_PATH})
        secure = self._is_https(request)
        response.del_cookie(COOKIE, path="/", secure=secure, httponly=True, samesite="Strict")
        return response

    def _check_is_here(self, request: web.Request) -> None:
        """Without a token: somebody at this machine, and not through a tunnel to it."""
        forwarded = any(name.lower().startswith(_FORWARDING) for name in request.headers)
        host = _host_name(request.headers.get("Host", ""))
        if forwarded or not _is_loopback(request) or host not in LOOPBACK_HOSTS:
            raise refused(
                403,
                "without CONSOLE_TOKEN the console is only for this machine itself, at "
                "http://127.0.0.1; set CONSOLE_TOKEN to use it from elsewhere",
            )

    def _check_bearer(self, request: web.Request, digest: bytes) -> None:
        scheme, _, token = request.headers["Authorization"].partition(" ")
        if scheme.lower() != "bearer":
            raise refused(401, "Authorization: Bearer and CONSOLE_TOKEN", WWW_Authenticate="Bearer")
        self._check_token(request, token.strip(), digest, 401)

    def _check_session(self, request: web.Request) -> None:
        cookie = request.cookies.get(COOKIE, "")
        if self._sessions is not None and self._sessions.is_good(cookie):
            return
        if _is_visit(request):
            to = f"{LOGIN_PATH}?next={quote(request.path_qs, safe='/')}"
            raise web.HTTPSeeOther(to)
        raise refused(
            401, "log in, or send Authorization: Bearer CONSOLE_TOKEN", WWW_Authenticate="Bearer"
        )

    def _check_token(
        self, request: web.Request, token: str, digest: bytes, wrong_status: int
    ) -> None:
        """In constant time, and not more often than may be: also the right one has to wait."""
        client = self._proxies.client_of(request)
        wait_s = self._guesses.wait_s(client)
        if wait_s:
            after = str(math.ceil(wait_s))
            raise refused(429, f"too many wrong tokens; wait {after} s", Retry_After=after)
        if not hmac.compare_digest(_digest(token), digest):
            self._guesses.take(client)
            challenge = {"WWW_Authenticate": "Bearer"} if wrong_status == 401 else {}
            raise refused(wrong_status, WRONG_TOKEN, **challenge)

    def _is_ours(self, origin: str, request: web.Request) -> bool:
        host, _ = self._proxies.host_of(request)
        return origin in self._public or (
            bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
        )

    def _is_https(self, request: web.Request) -> bool:
        """Whether the browser has come by https: it says so itself, with a form."""
        origin = request.headers.get("Origin")
        if origin is not None:
            return origin.startswith("https:")
        return not _is_loopback(request)


def _is_visit(request: web.Request) -> bool:
    """Whether somebody goes to a page, by typing or by a link, and would rather see one."""
    headers = request.headers
    if request.method not in _SAFE_METHODS or "Origin" in headers:
        return False
    mode = headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate" and headers.get("Sec-Fetch-Dest", "document") == "document"
    return "text/html" in headers.get("Accept", "")


def _is_api(request: web.Request) -> bool:
    """Whether it is for programs and scripts; there is one page among it."""
    return request.path.startswith("/api/") and request.path != DOCS_PATH


def _host_name(host: str) -> str | None:
    """The name or address in a Host header; None if it isn't one."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # half an IPv6 address
        return None


def _is_loopback(request: web.Request) -> bool:
    peer = request.transport and request.transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return False
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
