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
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            address = WrongValue("HOST, PORT", f"{host}:{port}", f"can't listen: {error.strerror}")
            raise ConfigError(address) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
