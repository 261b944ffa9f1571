"""Headers of all the console serves: what a page may do in a browser, and who may show it.

Nothing comes from elsewhere, no script or style stands in a page, and no other site frames one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

_DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "media-src": "'self' blob:",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


def content_security_policy(more: Mapping[str, Sequence[str]] | None = None) -> str:
    """What every page may load, and `more` of some directives, for a page that needs it."""
    wider = {name: " ".join(sources) for name, sources in (more or {}).items()}
    return "; ".join(
        f"{name} {sources} {wider.get(name, '')}".rstrip() for name, sources in _DIRECTIVES.items()
    )


CONTENT_SECURITY_POLICY = content_security_policy()

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Other sites are told nothing. With no-referrer, forms of ours would come with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
}

_REVALIDATED = "no-cache"
"""Kept by the browser, and asked about each time: a new bridge brings new pages."""


class Dresser:
    """Puts the headers on every answer below some paths, errors too. `paths` end with a slash,
    unless one of them is meant alone. `policy` is their content security policy.
    """

    def __init__(self, paths: Sequence[str], policy: str = CONTENT_SECURITY_POLICY) -> None:
        self._headers = {**SECURITY_HEADERS, "Content-Security-Policy": policy}
        self._whole = frozenset(paths)
        self._below = tuple(path for path in paths if path.endswith("/") and path != "/")

    async def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """For `Application.on_response_prepare`."""
        if request.path not in self._whole and not request.path.startswith(self._below):
            return
        response.headers.update(self._headers)
        kept = _REVALIDATED if "ETag" in response.headers else "no-store"
        response.headers.setdefault("Cache-Control", kept)
