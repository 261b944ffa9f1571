"""A tunnel of our own, through the `ngrok` package (optional; the extra `ngrok`)."""

from __future__ import annotations

import asyncio
from typing import Any

from personaplex_bridge.errors import TunnelError

TIMEOUT_S = 20.0
"""For the session with ngrok's servers and the tunnel in it."""


class PackageTunnel:
    """A session with ngrok, and the one listener in it."""

    told = "a tunnel of our own, through the ngrok package"

    def __init__(self, session: Any, public_url: str) -> None:
        self._session = session
        self.public_url = public_url

    async def close(self) -> None:
        """End the session, and the tunnel with it."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._session.close()
        except (TimeoutError, ValueError, RuntimeError) as error:
            raise TunnelError(f"the ngrok session could not be ended: {error}") from error


async def open_with_package(authtoken: str, port: int) -> PackageTunnel:
    """A tunnel to a port of this machine.

    Raises:
        TunnelError: ngrok refuses, or doesn't answer.
    """
    import ngrok

    try:
        async with asyncio.timeout(TIMEOUT_S):
            session = await ngrok.SessionBuilder().authtoken(authtoken).connect()
            listener = await session.http_endpoint().listen_and_forward(f"http://127.0.0.1:{port}")
    except TimeoutError as error:
        raise TunnelError(f"no answer from ngrok within {TIMEOUT_S:g} s") from error
    except (ValueError, RuntimeError) as error:  # what the package raises for its own errors
        why = str(error).replace(authtoken, "(token)")
        raise TunnelError(f"ngrok refuses: {why[:500]}") from error
    return PackageTunnel(session, str(listener.url()))
