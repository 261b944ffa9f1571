"""`personaplex-bridge doctor`: what is missing, and how to mend it."""

from __future__ import annotations

import asyncio
import importlib
import platform
import socket
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.errors import AudioError, ConfigError, HistoryUnavailable, PersonaError
from personaplex_bridge.findings import Finding
from personaplex_bridge.values import LOOPBACK_HOSTS, ServerAddress

LEAST_PYTHON = (3, 11)

_INSTALL = "in the project's folder: ./scripts/demo installs it (or: pip install -e .)"
# opuslib and PyOgg are looked at with the libraries they bind: they fail without them.
_NEEDED = {
    "aiohttp": "aiohttp",
    "websockets": "websockets",
    "numpy": "numpy",
    "soxr": "soxr",
    "soundfile": "soundfile",
    "opuslib": "importlib",
    "PyOgg": "importlib",
    "python-dotenv": "dotenv",
    "twilio": "twilio",
    "orjson": "orjson",
    "prometheus-client": "prometheus_client",
    "redis": "redis",
    "webrtcvad-wheels": "webrtcvad",
}
_EXTRAS = {"matplotlib": "demo needs it"}
_LIBRARIES = {
    "libopus": "personaplex_bridge.audio.opus",
    "libogg": "personaplex_bridge.audio.ogg",
}


async def examine(environ: Mapping[str, str]) -> bool:
    """Look at everything, print it, and say whether something needs mending.

    Imports what it looks at only when it looks: a doctor must be able to see the patient.
    """
    findings = [_python(), *_packages(), *_libraries()]
    complete = not any(finding.mend for finding in findings)
    try:
        settings = read_settings(environ)
    except ConfigError as error:
        findings += [
            Finding("setting", f"{wrong.variable}={wrong.value!r}", f"allowed: {wrong.allowed}")
            for wrong in error.wrong
        ]
    else:
        findings += [Finding("settings", "read"), _port(settings), *_twilio(settings)]
        if complete:
            findings += [_personas(settings), _ringback(settings), _hold_sound(settings)]
            findings += await model_servers(settings)
            findings.append(await _leases(settings))
            findings.append(await _history(settings))
            findings += await _phone(environ, settings)
    for finding in findings:
        print(finding)
    ailing = any(finding.mend for finding in findings)
    print("\nSomething needs mending: see the arrows." if ailing else "\nAll is well.")
    return ailing


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    least = ".".join(map(str, LEAST_PYTHON))
    mend = "" if sys.version_info >= LEAST_PYTHON else f"install Python {least} or newer"
    return Finding("Python", found, mend)


def _packages() -> list[Finding]:
    """The packages a bridge needs, and the extra of `demo`."""
    findings = [_package(name, module) for name, module in _NEEDED.items()]
    for name, commands in _EXTRAS.items():
        finding = _package(name, name)
        if finding.mend:
            finding = Finding(name, f"not installed (only {commands})")
        findings.append(finding)
    return findings


def _package(name: str, module: str) -> Finding:
    """Installed, and can it be imported?"""
    try:
        version = metadata.version(name)
        importlib.import_module(module)
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", _INSTALL)
    except ImportError as error:
        return Finding(name, f"can't be imported: {error}", _INSTALL)
    return Finding(name, version)


def _libraries() -> list[Finding]:
    """The C libraries. Our modules raise ImportErrors that say how to mend it."""
    findings = []
    for name, module in _LIBRARIES.items():
        try:
            version = getattr(importlib.import_module(module), "library_version", None)
        except ImportError as error:
            what, _, mend = str(error).partition(": ")
            findings.append(Finding(name, what, mend or _INSTALL))
        else:
            findings.append(Finding(name, version() if version else "found"))
    return findings


def _personas(settings: Settings) -> Finding:
    from personaplex_bridge.personas import load_catalogue

    try:
        catalogue = load_catalogue(settings.personas_file)
        catalogue.get(settings.persona)
    except PersonaError as error:
        return Finding("personas", str(error), "mend PERSONA or PERSONAS_FILE")
    return Finding("personas", f"{len(catalogue.personas)}, default {settings.persona}")


def _ringback(settings: Settings) -> Finding:
    from personaplex_bridge.audio.ringback import waiting_sound

    try:
        waiting_sound(settings.ringback)
    except AudioError as error:
        return Finding("ringback", str(error), "mend RINGBACK")
    return Finding("ringback", str(settings.ringback or "off"))


def _hold_sound(settings: Settings) -> Finding:
    from personaplex_bridge.audio.hold import hold_sound

    try:
        hold_sound(settings.hold_sound)
    except AudioError as error:
        return Finding("hold sound", str(error), "mend HOLD_SOUND")
    return Finding("hold sound", str(settings.hold_sound or "music of our own"))


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        return Finding(
            "port", f"{where}: {error.strerror or error}", "stop what uses it, or set PORT"
        )
    return Finding("port", f"{where} is free")


def _twilio(settings: Settings) -> list[Finding]:
    """Not having an account is fine; half of one is not."""
    url = settings.public_url or "not set: taken from each request's forwarded host"
    findings = [Finding("PUBLIC_URL", url)]
    if settings.twilio_auth_tokens:
        number = len(settings.twilio_auth_tokens)
        several = f", {number} tokens: take the old ones out when Twilio has the new" * (number > 1)
        findings.append(Finding("TWILIO_AUTH_TOKEN", f"set: signatures are checked{several}"))
    elif settings.twilio_account_sid is not None or settings.public_url is not None:
        mend = "set it (Twilio's console shows it), or anyone who finds the address can call"
        findings.append(Finding("TWILIO_AUTH_TOKEN", "not set", mend))
    else:
        findings.append(Finding("TWILIO_AUTH_TOKEN", "not set (fine on this machine alone)"))
    if settings.allow_unsigned:
        findings.append(_unsigned(settings))
    everyone = [str(network) for network in settings.trusted_proxies if network.prefixlen == 0]
    if everyone:
        mend = "name your proxies' own addresses: now anyone's X-Forwarded headers are believed"
        findings.append(Finding("TRUSTED_PROXIES", ", ".join(everyone), mend))
    return findings


def _unsigned(settings: Settings) -> Finding:
    if settings.twilio_auth_tokens:
        return Finding("ALLOW_UNSIGNED", "yes, which does nothing: TWILIO_AUTH_TOKEN is set")
    if settings.host in LOOPBACK_HOSTS:
        return Finding("ALLOW_UNSIGNED", f"yes, which {settings.host} doesn't need")
    mend = "set TWILIO_AUTH_TOKEN, and take it out: it is for closed networks only"
    return Finding("ALLOW_UNSIGNED", f"yes: anyone who reaches {settings.host} can call", mend)


async def model_servers(settings: Settings) -> list[Finding]:
    """Whether each model server answers. None is asked for its session."""
    if not settings.servers:
        return [Finding("model server", "PERSONAPLEX_URL is not set: serve uses a stand-in")]
    overheard = [
        Finding(
            "PERSONAPLEX_TOKEN",
            f"goes to {server.url} in plain text",
            "use wss:// (or a private network): whoever listens on the way has the token",
        )
        for server in settings.overheard
    ]
    asked = (_model_server(server, settings) for server in settings.servers)
    return [*overheard, *await asyncio.gather(*asked)]


async def _model_server(server: ServerAddress, settings: Settings) -> Finding:
    """A plain GET: the server answers 400, and its one session is left alone."""
    import aiohttp

    from personaplex_bridge.pool import probing, tls_context

    url, token = server.url, settings.personaplex_token
    tls = tls_context(url, verify=settings.personaplex_tls_verify)
    try:
        status = await probing.ask(url, tls, token)
        report = None if status == 401 else await probing.health(url, tls, token)
    except aiohttp.ClientConnectorCertificateError as error:
        mend = "for a self-signed certificate set PERSONAPLEX_TLS_VERIFY=no"
        return Finding("model server", f"{url}: {error.certificate_error}", mend)
    except (TimeoutError, aiohttp.ClientError) as error:
        mend = "is it running, and is PERSONAPLEX_URL right? (its port is 8998)"
        return Finding("model server", f"{url}: {error or 'no answer'}", mend)
    if status == 401:
        return _unauthorized(url, token)
    if report is not None:
        return _gate(url, report)
    if status not in probing.ALIVE:
        mend = "HTTP 400 is what a PersonaPlex server answers here; is this one?"
        return Finding("model server", f"{url} answers HTTP {status}", mend)
    return Finding("model server", f"{url} answers; calls at a time: {server.capacity}")


def _unauthorized(url: str, token: str | None) -> Finding:
    if token is None:
        mend = "set PERSONAPLEX_TOKEN to the gate's GATE_TOKEN"
        return Finding("model server", f"{url}: the gate asks for a token", mend)
    mend = "PERSONAPLEX_TOKEN must be one of the gate's GATE_TOKEN"
    return Finding("model server", f"{url}: the gate refuses PERSONAPLEX_TOKEN", mend)


def _gate(url: str, report: Mapping[str, Any]) -> Finding:
    """What a gate says of the model behind it."""
    found = f"{url}: a gate, {report['status']!s:.20}"
    match report:
        case {"status": "loading" | "failed" as status, "detail": str(detail)}:
            later = "wait: the first start downloads the weights, and can take an hour"
            mend = later if status == "loading" else "see the log of the gate's machine"
            return Finding("model server", f"{found} ({detail!r:.200})", mend)
        case {"step_ms": {"median": median, "p95": p95}, "keeps_up": bool(keeps_up)}:
            found += f"; a step takes {median} ms, at most {p95} ms in 19 of 20 (80 is real time)"
            mend = "" if keeps_up else "the GPU is too slow for it: callers will hear gaps"
            return Finding("model server", found, mend)
        case _:
            return Finding("model server", f"{found}; no step measured yet")


async def _leases(settings: Settings) -> Finding:
    """The store of leases is asked for nothing but how it is."""
    from personaplex_bridge.pool import open_leases

    try:
        leases = await open_leases(settings)
    except ConfigError:
        mend = "is it running, and is LEASES_URL right, with its password?"
        return Finding("LEASES_URL", "the Redis there can't be used", mend)
    if leases is None:
        return Finding("LEASES_URL", "not set: this bridge has its model servers for itself")
    async with leases.tended():
        return Finding("LEASES_URL", "the Redis there answers")


async def _history(settings: Settings) -> Finding:
    """The database of the call history, if there is to be one. Its tables are made on the way."""
    from personaplex_bridge.history import check_packages

    if not settings.keeps_history:
        return Finding("HISTORY", "off: no call is kept")
    try:
        check_packages()
        from personaplex_bridge.history.store import open_history

        async with open_history(settings) as history:
            await history.prepare()
    except ConfigError as error:
        wrong = error.wrong[0]
        return Finding(wrong.variable, wrong.value, f"allowed: {wrong.allowed}")
    except HistoryUnavailable as error:
        return Finding("HISTORY", str(error), "install the packages, or see to DATABASE_URL")
    return Finding("HISTORY", "calls are kept; the database answers")


async def _phone(environ: Mapping[str, str], settings: Settings) -> list[Finding]:
    from personaplex_bridge.doctor import phone

    return await phone.examine(environ, settings)
