"""The way from Twilio to a bridge: straight, or through a tunnel or proxy at its public address."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from yarl import URL

TWILIO_ADDRESS = "198.51.100.7"
"""Where the tunnel says that Twilio calls from; of a range that is for examples (RFC 5737)."""

_OWN_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests to a URL go, what is added to them, and how Twilio signs the URL."""

    tunnel: str | None = None
    """Host and port of the bridge behind the tunnel, which speaks plain HTTP with it."""
    signs_port: bool = False
    """The signed URL names the port, even where it is the scheme's own; Twilio has done both."""

    def target(self, url: str) -> URL:
        """Where a request to `url` really goes. As it is written: the signature covers it so."""
        if self.tunnel is None:
            return URL(url, encoded=True)
        parts = urlsplit(url)
        plain = {"https": "http", "wss": "ws"}.get(parts.scheme, parts.scheme)
        return URL(parts._replace(scheme=plain, netloc=self.tunnel).geturl(), encoded=True)

    def headers(self, url: str) -> dict[str, str]:
        """What the tunnel says of a request to `url`."""
        if self.tunnel is None:
            return {}
        host = urlsplit(url).netloc
        return {
            "X-Forwarded-Host": host,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": TWILIO_ADDRESS,
        }

    def signed_form(self, url: str) -> str:
        """The URL as Twilio signs it."""
        parts = urlsplit(url)
        if not self.signs_port or parts.port is not None:
            return url
        return parts._replace(netloc=f"{parts.netloc}:{_OWN_PORTS[parts.scheme]}").geturl()


DIRECT = Route()
