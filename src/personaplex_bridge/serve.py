"""`personaplex-bridge serve`: the bridge as a process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator

from personaplex_bridge import logs
from personaplex_bridge.audio.hold import hold_sound
from personaplex_bridge.audio.ringback import waiting_sound
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool import make_pool
from personaplex_bridge.values import CHAT_PATH, LOOPBACK_HOSTS, ServerAddress
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import WEBHOOK_PATH

_log = logging.getLogger(logs.NAME)


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then end the calls in progress and return.

    Raises:
        ConfigError: the address can't be listened on.
        AudioError: RINGBACK or HOLD_SOUND is a file without usable sound.
        PersonaError: PERSONA or PERSONAS_FILE is not usable.
    """
    catalogue = load_catalogue(settings.personas_file)
    persona = catalogue.get(settings.persona)
    if persona.experimental:
        _log.warning("persona %s is experimental: see docs/personas.md", settings.persona)
    sound, hold = waiting_sound(settings.ringback), hold_sound(settings.hold_sound)
    async with contextlib.AsyncExitStack() as stack:
        servers = settings.servers
        if not servers:
            standin = _own_standin(settings.personaplex_capacity)
            servers = (await stack.enter_async_context(standin),)
        pool = make_pool(settings, servers, persona.role)
        bridge = Bridge(settings, catalogue, pool, waiting_sound=sound, hold_sound=hold)
        app = bridge.application()
        site = hosted(app, settings.host, settings.port, settings.max_header_bytes)
        port = await stack.enter_async_context(site)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        base = settings.public_url or f"http://{host}:{port}"
        for server in servers:
            _log.info("model server: %s, calls at a time: %d", server.url, server.capacity)
        _log.info("ready: the voice webhook is at %s%s", base, WEBHOOK_PATH)
        if settings.public_url is None:
            _log.info("PUBLIC_URL is not set: Twilio needs an https address that leads here")
        _warn_of_open_doors(settings)
        _spare_the_collector()
        await until_signal()
        _log.info("shutting down: ending %d calls", len(bridge.records))
        await bridge.end_calls()
        await bridge.say_goodbye()


def _warn_of_open_doors(settings: Settings) -> None:
    """Loudly: at every LOG_LEVEL."""
    if settings.twilio_auth_tokens:
        return
    what = "TWILIO_AUTH_TOKEN is not set, so NOBODY IS ASKED WHO THEY ARE"
    if settings.host not in LOOPBACK_HOSTS:
        _log.critical("%s: anyone who reaches %s can call (ALLOW_UNSIGNED)", what, settings.host)
    if settings.public_url is not None:
        _log.critical("%s: anyone who finds %s can call", what, settings.public_url)
    if settings.host in LOOPBACK_HOSTS and settings.public_url is None:
        _log.warning("TWILIO_AUTH_TOKEN is not set: anyone on this machine can call")


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
