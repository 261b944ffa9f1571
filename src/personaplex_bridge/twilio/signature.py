"""Is it Twilio that calls us? `X-Twilio-Signature` on webhooks and on the WebSocket upgrade.

The signature covers the *public* URL and the sorted POST parameters
(https://www.twilio.com/docs/usage/security). For the upgrade, both the `wss` and the `https`
form of the URL, with and without a trailing slash, have been seen in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from twilio.request_validator import RequestValidator

HEADER = "X-Twilio-Signature"


def sign(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    """The signature Twilio would send for a request to `url` with these POST parameters."""
    return str(RequestValidator(auth_token).compute_signature(url, form))


def webhook_is_signed(auth_token: str, url: str, form: Mapping[str, str], signature: str) -> bool:
    """Whether `signature` is right for a webhook at the public `url`."""
    try:
        return bool(RequestValidator(auth_token).validate(url, form, signature))
    except ValueError:
        return False  # the URL, made from the request's own host, is none


def upgrade_is_signed(auth_token: str, url: str, signature: str) -> bool:
    """Whether `signature` is right for a WebSocket upgrade at the public `url`."""
    validator = RequestValidator(auth_token)
    try:
        return any(validator.validate(form, {}, signature) for form in _upgrade_forms(url))
    except ValueError:
        return False  # the URL, made from the request's own host, is none


def _upgrade_forms(url: str) -> list[str]:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    # RequestValidator itself tries the URL without a port and with :443 for https, but :80 for
    # wss, so the port a wss URL really has is given to it here.
    hosts = [parts.netloc] if parts.port else [parts.netloc, f"{parts.netloc}:443"]
    return [
        urlunsplit((scheme, host, path + slash, parts.query, ""))
        for scheme in ("wss", "https")
        for host in hosts
        for slash in ("", "/")
    ]
