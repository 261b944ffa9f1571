"""`personaplex-bridge serve`: the bridge as a process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator

from personaplex_bridge import logs
from personaplex_bridge.audio.ringback import waiting_sound
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool import make_pool, open_leases
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.webhooks import WEBHOOK_PATH

_log = logging.getLogger(logs.NAME)


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then end the calls in progress and return.

    Raises:
        ConfigError: the address can't be listened on, or the Redis of LEASES_URL not be reached.
        AudioError: RINGBACK is a file without usable sound.
        PersonaError: PERSONA or PERSONAS_FILE is not usable.
    """
    catalogue = load_catalogue(settings.personas_file)
    persona = catalogue.get(settings.persona)
    if persona.experimental:
        _log.warning("persona %s is experimental: see docs/personas.md", settings.persona)
    sound = waiting_sound(settings.ringback)
    async with contextlib.AsyncExitStack() as stack:
        servers = settings.servers
        if not servers:
            standin = _own_standin(settings.personaplex_capacity)
            servers = (await stack.enter_async_context(standin),)
        pool = make_pool(settings, servers, persona.role, await open_leases(settings))
        bridge = Bridge(settings, catalogue, pool, waiting_sound=sound)
        app = bridge.application()
        port = await stack.enter_async_context(hosted(app, settings.host, settings.port))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        base = settings.public_url or f"http://{host}:{port}"
        for number, server in enumerate(servers, start=1):
            _log.info(
                "model server %d: %s, calls at a time: %d", number, server.url, server.capacity
            )
        _log.info("ready: the voice webhook is at %s%s", base, WEBHOOK_PATH)
        if settings.public_url is None:
            _log.info("PUBLIC_URL is not set: Twilio needs an https address that leads here")
        if not settings.twilio_auth_tokens:
            _log.warning("TWILIO_AUTH_TOKEN is not set: anyone who finds this address can call")
        _spare_the_collector()
        await until_signal()
        _log.info("shutting down: ending %d calls", len(bridge.records))


def _spare_the_collector() -> None:
    """What was made at start stays: don't let every garbage collection look at it again."""
    gc.collect()
    gc.freeze()


async def until_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)  # a second signal ends the process at once


@contextlib.asynccontextmanager
async def _own_standin(sessions: int) -> AsyncIterator[ServerAddress]:
    from personaplex_bridge.simulator.model import ModelOptions, ModelServer

    app = ModelServer(ModelOptions(sessions=sessions)).application()
    async with hosted(app, "127.0.0.1", 0) as port:
        _log.warning(
            "PERSONAPLEX_URL is not set: calls reach a stand-in that repeats what the caller "
            "says, not a model"
        )
        yield ServerAddress(f"ws://127.0.0.1:{port}{CHAT_PATH}", sessions)
