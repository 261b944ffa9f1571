"""What calls from a phone need beside the bridge.

Nobody who doesn't want them has to mend anything for it, and nobody who is offline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from personaplex_bridge.config import Settings
from personaplex_bridge.dev.agent import NgrokAgent
from personaplex_bridge.dev.settings import TunnelSettings, read_tunnel_settings
from personaplex_bridge.dev.tunnels import has_package
from personaplex_bridge.errors import ConfigError, NumberError, TunnelError, TwilioError
from personaplex_bridge.findings import Finding
from personaplex_bridge.numbers import limits
from personaplex_bridge.numbers.saved import SavedNumbers, state_folder
from personaplex_bridge.numbers.settings import AccountSettings, read_account_settings
from personaplex_bridge.phone.softphone import read_softphone_settings

TIMEOUT_S = 5.0
"""For all that Twilio is asked."""

_MISSING = "(only calls from a phone need it: docs/phone.md)"


async def examine(environ: Mapping[str, str], settings: Settings) -> list[Finding]:
    """Look at the account, its numbers, the way to here, and the key of the GPU's provider."""
    try:
        account, tunnel = read_account_settings(environ), read_tunnel_settings(environ)
        softphone = read_softphone_settings(environ)
    except ConfigError as error:
        return [
            Finding("setting", f"{wrong.variable}={wrong.value!r}", f"allowed: {wrong.allowed}")
            for wrong in error.wrong
        ]
    twilio, ngrok = await asyncio.gather(_account(account, settings), _ngrok(tunnel))
    found = [*twilio, *_saved(environ, account), ngrok, _runpod(environ)]
    if softphone.app_sid is not None:
        found.append(Finding("Voice SDK", "/voice/token gives tokens for TWILIO_APP_SID"))
    return found


async def _account(account: AccountSettings, settings: Settings) -> list[Finding]:
    if account.credentials is None or account.account_sid is None:
        return [Finding("Twilio account", f"not set {_MISSING}")]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _asked(account, settings)
    except TimeoutError:
        return [Finding("Twilio account", "no answer from Twilio; are you online?")]
    except TwilioError as error:
        if error.status in (401, 403):
            return [Finding("Twilio account", str(error), "copy both from Twilio's console")]
        return [Finding("Twilio account", str(error))]


async def _asked(account: AccountSettings, settings: Settings) -> list[Finding]:
    from personaplex_bridge.numbers.rest import open_rest

    async with open_rest(account) as rest:
        info = await rest.account()
        numbers = [number for number in await rest.numbers() if number.takes_calls]
    mend = "" if info.status == "active" else "see Twilio's console"
    told = f"{info.kind.lower()}, {info.status}; {limits.of(info)}"
    found = [Finding("Twilio account", told, mend)]
    if not numbers:
        return [*found, Finding("Twilio numbers", "none takes calls: buy one in Twilio's console")]
    if settings.public_url is None:
        told = f"{len(numbers)}; PUBLIC_URL is not set (`personaplex-bridge dev` needs none)"
        return [*found, Finding("Twilio numbers", told)]
    bases = tuple(f"{url}/" for url in settings.public_urls)
    here = sum(number.routing.told.startswith(bases) for number in numbers)
    return [*found, Finding("Twilio numbers", f"{len(numbers)}, of which {here} point here")]


def _saved(environ: Mapping[str, str], account: AccountSettings) -> list[Finding]:
    """Numbers that are still to be put back."""
    if account.account_sid is None:
        return []
    try:
        kept = SavedNumbers(state_folder(environ)).all(account.account_sid)
    except NumberError as error:
        return [Finding("kept webhooks", str(error), "mend or delete that file")]
    if not kept:
        return []
    told = f"of {len(kept)} numbers; `personaplex-bridge twilio restore --all` puts them back"
    return [Finding("kept webhooks", told)]


async def _ngrok(settings: TunnelSettings) -> Finding:
    try:
        tunnels = await NgrokAgent(settings.ngrok_api_url).tunnels(TIMEOUT_S)
    except TunnelError:
        pass
    else:
        return Finding("tunnel", f"an ngrok agent is running, with {len(tunnels)} tunnels")
    if has_package() and settings.ngrok_authtoken is not None:
        return Finding("tunnel", f"the ngrok package and a token; {limits.NGROK_FREE}")
    if has_package():
        return Finding("tunnel", f"the ngrok package, but NGROK_AUTHTOKEN is not set {_MISSING}")
    return Finding("tunnel", f"no ngrok agent, and no ngrok package {_MISSING}")


def _runpod(environ: Mapping[str, str]) -> Finding:
    """Whether there is a key; it isn't tried."""
    if environ.get("RUNPOD_API_KEY", "").strip():
        return Finding("RUNPOD_API_KEY", "set")
    return Finding("RUNPOD_API_KEY", "not set (only `personaplex-bridge runpod` needs it)")
