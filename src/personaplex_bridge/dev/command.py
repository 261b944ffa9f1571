"""From nothing to a ringing phone, and back: what `personaplex-bridge dev` does.

Each step is a context, so whatever ends the run, be it Ctrl-C or a failure, takes back what was
done, the latest first: the number's webhook, then the calls, the bridge, the tunnel. What a kill
leaves is kept in a file from before the number is changed, and mended by the next run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from personaplex_bridge import doctor, signals
from personaplex_bridge.config import Settings
from personaplex_bridge.dev import chain
from personaplex_bridge.dev.chain import Tell
from personaplex_bridge.dev.settings import TunnelSettings
from personaplex_bridge.dev.tunnels import GivenTunnel, Tunnel, open_tunnel
from personaplex_bridge.errors import BridgeError, ConfigError, NumberError, TunnelError, WrongValue
from personaplex_bridge.findings import Finding
from personaplex_bridge.numbers import limits, pointing
from personaplex_bridge.numbers.probing import Prober
from personaplex_bridge.numbers.records import AccountInfo, Number
from personaplex_bridge.numbers.rest import TwilioRest, open_rest
from personaplex_bridge.numbers.saved import SavedNumbers
from personaplex_bridge.numbers.settings import AccountSettings
from personaplex_bridge.serve import Running, running, warn_of_open_doors
from personaplex_bridge.web.paths import WEBHOOK_PATH


@dataclass(frozen=True, slots=True)
class DevPlan:
    """What the run is made of. `number`: E.164, or None for the account's only one."""

    settings: Settings
    account: AccountSettings
    tunnel: TunnelSettings
    saved: SavedNumbers
    number: str | None = dataclasses.field(default=None, repr=False)
    points: bool = True
    """False: no number is pointed, and Twilio's REST API is not asked."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The account and the number that are used."""

    rest: TwilioRest
    info: AccountInfo
    number: Number


async def dev(plan: DevPlan, tell: Tell) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP (the terminal was closed); then take everything back.

    Raises:
        BridgeError: a step failed, or could not be taken back; the other steps were.
    """
    with signals.heard(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as told:
        run = asyncio.create_task(_run(plan, tell), name="dev")
        stop = asyncio.create_task(told.get(), name="signal")
        try:
            await asyncio.wait({run, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (run, stop):
                task.cancel()
            await asyncio.wait({run, stop})
        if not run.cancelled():
            run.result()
    tell("Stopped.")


async def _run(plan: DevPlan, tell: Tell) -> None:
    async with AsyncExitStack() as stack:
        found = await _find_number(stack, plan, tell) if plan.points else None
        port = free_port(plan.settings.host, plan.settings.port)
        opened = open_tunnel(plan.tunnel, port, plan.settings.public_url)
        tunnel = await stack.enter_async_context(opened)
        tell(f"Tunnel: {tunnel.public_url} -> port {port} ({tunnel.told})")
        settings = dataclasses.replace(plan.settings, port=port, public_urls=(tunnel.public_url,))
        site = await stack.enter_async_context(running(settings))
        stack.push_async_callback(_end_calls, site, tell)
        prober = Prober(tunnel.public_url, plan.account)
        await _check(prober, site, settings, tell)
        if found is not None:
            await stack.enter_async_context(_pointed(plan, found, tunnel.public_url, tell))
        _tell_ready(found, tunnel, tell)
        await chain.watch(prober, tell)


async def _find_number(stack: AsyncExitStack, plan: DevPlan, tell: Tell) -> _Found:
    """Before anything is opened: nothing else is worth doing if this fails."""
    rest = await stack.enter_async_context(open_rest(plan.account))
    info = await rest.account()
    if info.status != "active":
        raise NumberError(f"the Twilio account is {info.status}: see Twilio's console")
    number = await pointing.choose(rest, plan.number)
    stack.enter_context(plan.saved.held(number.sid))
    tell(f"Twilio: {info.kind.lower()} account, number {number.number}")
    kept = plan.saved.get(number.sid)
    if kept is not None and not kept.standing:
        tell("An earlier run was cut off: what the number did before that will be put back.")
    return _Found(rest, info, number)


async def _check(prober: Prober, site: Running, settings: Settings, tell: Tell) -> None:
    """Tell of each link. The model may still be starting; without the others there are no calls.

    Raises:
        TunnelError: the bridge can't be reached, or not safely.
    """
    signed = bool(settings.twilio_auth_tokens)
    if not signed:
        warn_of_open_doors(settings)
    async for finding in chain.look(prober, site.bridge.instance, signed=signed):
        tell(str(finding))
        if not finding.is_well and (signed or finding.what == "public address"):
            raise TunnelError(f"{finding.what}: {finding.found}. {finding.mend}")
    for finding in await doctor.model_servers(settings):
        tell(str(finding))


@asynccontextmanager
async def _pointed(plan: DevPlan, found: _Found, base: str, tell: Tell) -> AsyncIterator[None]:
    """Have the number point here inside the block."""
    rest, saved, number = found.rest, plan.saved, found.number
    url = pointing.webhook_url(base, WEBHOOK_PATH)
    try:
        account = plan.account.account_sid or ""
        await _to_its_end(pointing.point(rest, saved, account, number, url, stays=False))
        kept = saved.get(number.sid)
        after = "the same" if kept is None else pointing.after_release(kept).told
        tell(str(Finding("number", f"points to {url} (afterwards: {after})")))
        if kept is not None:
            tell(f"      what it did before is kept in {saved.path(number.sid)}")
        yield
    finally:
        await _put_back(rest, saved, number, tell)


async def _to_its_end(changing: Coroutine[Any, Any, object]) -> None:
    """Cancelled, it ends when Twilio has answered: a change that came after the number was put back
    would stay. `rest` has deadlines.
    """
    task = asyncio.create_task(changing, name="point")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _put_back(rest: TwilioRest, saved: SavedNumbers, number: Number, tell: Tell) -> None:
    kept = saved.get(number.sid)
    if kept is None:
        return  # it pointed here all along
    try:
        done = await pointing.release(rest, saved, kept)
    except BridgeError as error:
        raise NumberError(
            f"the number was not put back: {error}. `personaplex-bridge twilio restore` does it"
        ) from error
    tell(f"The number's calls go to {done.number.routing.told} again.")


async def _end_calls(site: Running, tell: Tell) -> None:
    """While the tunnel is still there: Twilio asks what to tell the callers."""
    if calls := len(site.bridge.records):
        tell(f"Ending {calls} calls.")
    await site.bridge.say_goodbye()


def _tell_ready(found: _Found | None, tunnel: Tunnel, tell: Tell) -> None:
    if found is None:
        tell(f"\nReady. The voice webhook is {tunnel.public_url}{WEBHOOK_PATH}")
    else:
        tell(f"\nReady. Call {found.number.number}")
        tell(f"  note: {limits.of(found.info)}")
    if not isinstance(tunnel, GivenTunnel):
        tell(f"  note: {limits.NGROK_FREE}")
    tell("Ctrl-C ends it" + (", and puts the number back." if found else "."))


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Looked at before the tunnel opens: it would lead the internet
    to whatever else is listening there.

    Raises:
        ConfigError: it is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        allowed = f"can't listen: {error.strerror or error}; stop what uses it, or set another one"
        raise ConfigError(WrongValue("PORT", f"{host}:{port}", allowed)) from error
