"""How to get a tunnel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError
from personaplex_bridge.reading import Reader

NGROK_API_URL = "http://127.0.0.1:4040"


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """Where a running ngrok agent would be asked, and the token to be one ourselves."""

    ngrok_api_url: str = NGROK_API_URL
    ngrok_authtoken: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may not leave in a line of a log."""
        return () if self.ngrok_authtoken is None else (self.ngrok_authtoken,)


def read_tunnel_settings(environ: Mapping[str, str]) -> TunnelSettings:
    """Read the NGROK_ variables.

    Raises:
        ConfigError: with everything that is wrong.
    """
    reader = Reader(environ, {"NGROK_AUTHTOKEN"})
    settings = TunnelSettings(
        ngrok_api_url=reader.get("NGROK_API_URL", _agent_url, NGROK_API_URL),
        ngrok_authtoken=reader.get("NGROK_AUTHTOKEN", str, None),
    )
    if reader.wrong:
        raise ConfigError(*reader.wrong)
    return settings


def _agent_url(value: str) -> str:
    """The agent's web address. It may be another machine's, such as that of a container's host."""
    allowed = "http://host:port of the ngrok agent's web interface, without a path"
    parts = values.split(value, allowed)
    if parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query:
        raise ValueError(allowed)
    return f"{parts.scheme}://{parts.netloc}"
