"""A way from the internet to a port of this machine, whoever makes it."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from personaplex_bridge.dev.agent import NgrokAgent
from personaplex_bridge.dev.settings import TunnelSettings
from personaplex_bridge.errors import TunnelError

THREE_WAYS = """\
Twilio needs an https address that leads to this machine. One of:
  1. the ngrok package:  pip install 'personaplex-bridge[ngrok]', and NGROK_AUTHTOKEN in .env
     (https://dashboard.ngrok.com/get-started/your-authtoken)
  2. a running ngrok agent:  ngrok http {port}   in another terminal; it is found at {agent}
     (NGROK_API_URL)
  3. any other tunnel to port {port}, and PUBLIC_URL in .env:
     cloudflared tunnel --url http://127.0.0.1:{port}"""


class Tunnel(Protocol):
    """An open tunnel."""

    @property
    def public_url(self) -> str:
        """https://host, without a path."""

    @property
    def told(self) -> str:
        """What kind of tunnel it is, in words."""

    async def close(self) -> None:
        """Close it, if it was opened for us.

        Raises:
            TunnelError: it stays.
        """


class GivenTunnel:
    """A tunnel that somebody else looks after, at PUBLIC_URL."""

    told = "PUBLIC_URL, as it is set"

    def __init__(self, public_url: str) -> None:
        self.public_url = public_url

    async def close(self) -> None:
        """It isn't ours."""


def has_package() -> bool:
    """Whether the ngrok package is installed."""
    return importlib.util.find_spec("ngrok") is not None


@asynccontextmanager
async def open_tunnel(
    settings: TunnelSettings, port: int, public_url: str | None = None
) -> AsyncIterator[Tunnel]:
    """A tunnel to `port` inside the block: the one at `public_url`, else one of a running ngrok
    agent, else one of the ngrok package.

    Raises:
        TunnelError: none of these; says how to get one.
    """
    tunnel = await _open(settings, port, public_url)
    try:
        yield tunnel
    finally:
        await tunnel.close()


async def _open(settings: TunnelSettings, port: int, public_url: str | None) -> Tunnel:
    if public_url is not None:
        return GivenTunnel(public_url)
    agent = NgrokAgent(settings.ngrok_api_url)
    if await agent.is_running():
        return await agent.tunnel_to(port)
    if settings.ngrok_authtoken is not None and has_package():
        from personaplex_bridge.dev.package import open_with_package

        return await open_with_package(settings.ngrok_authtoken, port)
    raise TunnelError(_none_there(settings, port))


def _none_there(settings: TunnelSettings, port: int) -> str:
    half = ""
    if settings.ngrok_authtoken is not None:
        half = "NGROK_AUTHTOKEN is set, but the ngrok package is not installed.\n"
    elif has_package():
        half = "The ngrok package is installed, but NGROK_AUTHTOKEN is not set.\n"
    agent = settings.ngrok_api_url.partition("//")[2]
    return f"no tunnel. {half}{THREE_WAYS.format(port=port, agent=agent)}"
