"""`personaplex-bridge serve`: the bridge as a process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

from personaplex_bridge import logs, signals
from personaplex_bridge.audio.hold import hold_sound
from personaplex_bridge.audio.ringback import waiting_sounds
from personaplex_bridge.callers import Callers
from personaplex_bridge.config import Settings
from personaplex_bridge.console.past import PastCalls
from personaplex_bridge.console.serving import Console
from personaplex_bridge.observing import Observer
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.phone.routes import Phone
from personaplex_bridge.phone.softphone import SoftphoneSettings
from personaplex_bridge.phone.softphone_page import SoftphonePage
from personaplex_bridge.pool import make_pool, open_leases
from personaplex_bridge.recording.recorder import Recorder
from personaplex_bridge.telemetry import telemetry
from personaplex_bridge.values import CHAT_PATH, LOOPBACK_HOSTS, ServerAddress
from personaplex_bridge.vendor.serving import Vendored
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import MAX_STRANGERS, allow_connections, hosted
from personaplex_bridge.web.paths import WEBHOOK_PATH

_log = logging.getLogger(logs.NAME)


@dataclass(frozen=True, slots=True)
class Running:
    """A bridge that takes calls. `address` is where it listens, as a URL."""

    bridge: Bridge
    port: int
    address: str
    has_console: bool


NO_SOFTPHONE = SoftphoneSettings()


async def serve(settings: Settings, softphone: SoftphoneSettings = NO_SOFTPHONE) -> None:
    """Serve until SIGINT, which ends the calls in progress, or SIGTERM, which lets them go on for
    up to DRAIN_TIMEOUT; then return.

    Raises:
        ConfigError, AudioError, PersonaError, HistoryUnavailable: as `running` does.
    """
    async with running(settings, softphone) as site:
        base = settings.public_url or site.address
        _log.info("ready: the voice webhook is at %s%s", base, WEBHOOK_PATH)
        if settings.public_url is None:
            _log.info("PUBLIC_URL is not set: Twilio needs an https address that leads here")
        if site.has_console:
            where = base if settings.console_token is not None else site.address
            _log.info("the console is at %s/", where)
        warn_of_open_doors(settings)
        _spare_the_collector()
        await _until_drained(site.bridge, settings.drain_timeout_s)
        await site.bridge.say_goodbye()


@contextlib.asynccontextmanager
async def running(
    settings: Settings, softphone: SoftphoneSettings = NO_SOFTPHONE
) -> AsyncIterator[Running]:
    """Run the bridge inside the block, with a stand-in for the model if there is no other.

    At its end the calls in progress are cut off: `Bridge.say_goodbye` before tells the callers.

    Raises:
        ConfigError: the address can't be listened on, the Redis of LEASES_URL not be reached,
            RECORDINGS_FOLDER not be written to, DATABASE_URL, HISTORY_KEY or STATE_DIR not be used,
            or traces are wanted without their packages.
        AudioError: RINGBACK or HOLD_SOUND is a file without usable sound.
        PersonaError: PERSONA or PERSONAS_FILE is not usable.
        HistoryUnavailable: a history is to be kept, and its packages are not installed.
    """
    catalogue = load_catalogue(settings.personas_file)
    persona = catalogue.get(settings.persona)
    if persona.experimental:
        _log.warning("persona %s is experimental: see docs/personas.md", settings.persona)
    sounds, hold = waiting_sounds(settings.ringback), hold_sound(settings.hold_sound)
    async with contextlib.AsyncExitStack() as stack:
        servers = settings.servers
        if not servers:
            standin = _own_standin(settings.personaplex_capacity)
            servers = (await stack.enter_async_context(standin),)
        pool = make_pool(settings, servers, persona.role, await open_leases(settings))
        watch = await stack.enter_async_context(telemetry(settings))
        callers, observers = Callers(), [*watch.observers]
        past = None
        if settings.keeps_history:
            recorder_of_history, past = await stack.enter_async_context(_history(settings, callers))
            observers.append(recorder_of_history)
        recorder = None
        if settings.recording:
            recorder = Recorder(settings.recordings_folder, settings.recording_days)
            await stack.enter_async_context(recorder.running())
        console = Console(settings)
        observers += console.observers
        bridge = Bridge(
            settings,
            catalogue,
            pool,
            waiting_sounds=sounds,
            hold_sound=hold,
            callers=callers,
            observers=observers,
            recorder=recorder,
            app_sid=softphone.app_sid,
        )
        app = bridge.application()
        watch.add_to(app, bridge)
        if console.access.is_there:
            calls, guard = bridge.browser_calls, console.access
            Phone(guard, calls, bridge, catalogue, settings, softphone).add_to(app)
            SoftphonePage(guard, settings, softphone).add_to(app)
            Vendored().add_to(app)
        console.add_to(app, bridge, past)
        site = hosted(app, settings.host, settings.port, settings.max_header_bytes)
        port = await stack.enter_async_context(site)
        for number, server in enumerate(servers, start=1):
            _log.info(
                "model server %d: %s, calls at a time: %d", number, server.url, server.capacity
            )
        for server in settings.overheard:
            _log.warning(
                "PERSONAPLEX_TOKEN goes to %s in plain text: whoever listens on the way has it; "
                "use wss://",
                server.url,
            )
        allow_connections(2 * settings.max_calls + MAX_STRANGERS)  # a call has one on either side
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield Running(bridge, port, f"http://{host}:{port}", console.access.is_there)


def warn_of_open_doors(settings: Settings) -> None:
    """Tell whoever runs this that anyone can call: loudly, which is at every LOG_LEVEL."""
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


async def _until_drained(bridge: Bridge, timeout_s: float) -> None:
    """Wait for a signal. After SIGTERM, have the calls in progress go on to their ends, for so
    long at most or until another signal.
    """
    with signals.heard() as told:
        if await told.get() is signal.SIGTERM:
            draining = asyncio.create_task(bridge.drain(timeout_s), name="drain")
            again = asyncio.create_task(told.get(), name="second-signal")
            await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
            for task in (draining, again):
                task.cancel()
            await asyncio.wait({draining, again})
    _log.info("shutting down: ending %d calls", len(bridge.records))


@contextlib.asynccontextmanager
async def _history(
    settings: Settings, callers: Callers
) -> AsyncIterator[tuple[Observer, PastCalls]]:
    """Calls are kept, and can be looked up. The packages that this takes are imported only here."""
    from personaplex_bridge.history import check_packages

    check_packages()
    from personaplex_bridge import past_calls
    from personaplex_bridge.history.keeping import keep_history

    async with keep_history(settings, callers) as keeper:
        yield keeper.recorder, past_calls.PastCalls(keeper.history)


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
