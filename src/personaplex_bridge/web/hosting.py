"""Running an aiohttp application for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from personaplex_bridge.errors import ConfigError, WrongValue


@asynccontextmanager
async def hosted(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app` inside the block; gives the port (the one chosen, if `port` is 0).

    No access log: a webhook's query may hold a prompt.

    Raises:
        ConfigError: the address can't be listened on.
    """
    # Nobody sends compressed bodies here on purpose.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, auto_decompress=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "no such host"
            address = WrongValue("host, port", f"{host}:{port}", f"can't listen: {why}")
            raise ConfigError(address) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
