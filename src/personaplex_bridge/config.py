"""Settings: read once from the environment, checked, frozen, passed down.

`.env.example` documents every variable for users.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from personaplex_bridge.errors import ConfigError, WrongValue

T = TypeVar("T")
S = TypeVar("S", bound=str)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
TRANSCODERS = ("native", "soxr")
NOISE_GATES: tuple[Literal["off", "auto", "strict"], ...] = ("off", "auto", "strict")
RINGBACK_COUNTRIES = (
    "at", "au", "be", "bg", "br", "ca", "ch", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gb",
    "gr", "hk", "hu", "ie", "il", "in", "it", "jp", "kr", "lt", "mx", "nl", "no", "nz", "pl", "pt",
    "ru", "se", "sg", "tr", "tw", "uk", "us", "za",
)  # fmt: skip
"""Those whose ringing tone `audio.ringback` knows; this room may not ask it."""
CHAT_PATH = "/api/chat"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_SECRETS = frozenset({"TWILIO_AUTH_TOKEN"})
_YES, _NO = frozenset({"1", "yes", "true", "on"}), frozenset({"0", "no", "false", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a bridge can be told. The defaults suit a laptop."""

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None
    """Scheme and host as Twilio sees them, without a trailing slash."""
    personaplex_url: str | None = None
    """ws or wss, ending in /api/chat; None for a stand-in of our own."""
    personaplex_tls_verify: bool = True
    personaplex_capacity: int = 1
    handshake_timeout_s: float = 30.0
    persona: str = "assistant"
    personas_file: Path | None = None
    transcoder: str = "native"
    packets_per_page: int = 4
    uplink_backlog_ms: int = 1000
    downlink_backlog_ms: int = 1000
    lag_target_ms: int | None = 200
    """None: lag is never worked off."""
    noise_gate: Literal["off", "auto", "strict"] = "auto"
    cushion: bool = True
    barge_in: bool = True
    warm_lines: bool = True
    ringback: str | Path | None = "us"
    """What callers hear until the model is ready: a country, a sound file, or nothing."""
    log_level: str = "INFO"
    twilio_account_sid: str | None = None
    twilio_auth_token: str | None = field(default=None, repr=False)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in an environment. An empty value counts as unset.

    Raises:
        ConfigError: names every wrong value and what is allowed.
    """
    defaults = Settings()
    reader = _Reader(environ)
    settings = Settings(
        host=reader.get("HOST", _host, defaults.host),
        port=reader.get("PORT", _integer(0, 65535), defaults.port),
        public_url=reader.get("PUBLIC_URL", _public_url, None),
        personaplex_url=reader.get("PERSONAPLEX_URL", _personaplex_url, None),
        personaplex_tls_verify=reader.get("PERSONAPLEX_TLS_VERIFY", _flag, True),
        personaplex_capacity=reader.get(
            "PERSONAPLEX_CAPACITY", _integer(1, 1000), defaults.personaplex_capacity
        ),
        handshake_timeout_s=reader.get(
            "HANDSHAKE_TIMEOUT", _seconds(0.1, 600), defaults.handshake_timeout_s
        ),
        persona=reader.get("PERSONA", str, defaults.persona),
        personas_file=reader.get("PERSONAS_FILE", _existing_file, None),
        transcoder=reader.get("TRANSCODER", _choice(TRANSCODERS), defaults.transcoder),
        packets_per_page=reader.get(
            "PACKETS_PER_PAGE", _one_of(1, 2, 4), defaults.packets_per_page
        ),
        uplink_backlog_ms=reader.get(
            "UPLINK_BACKLOG_MS", _integer(80, 10_000), defaults.uplink_backlog_ms
        ),
        downlink_backlog_ms=reader.get(
            "DOWNLINK_BACKLOG_MS", _integer(80, 10_000), defaults.downlink_backlog_ms
        ),
        lag_target_ms=reader.get(
            "LAG_TARGET_MS", _or_off(_integer(40, 10_000)), defaults.lag_target_ms
        ),
        noise_gate=reader.get("NOISE_GATE", _choice(NOISE_GATES), defaults.noise_gate),
        cushion=reader.get("CUSHION", _flag, defaults.cushion),
        barge_in=reader.get("BARGE_IN", _flag, defaults.barge_in),
        warm_lines=reader.get("WARM_LINES", _flag, defaults.warm_lines),
        ringback=reader.get("RINGBACK", _ringback, defaults.ringback),
        log_level=reader.get("LOG_LEVEL", _level, defaults.log_level),
        twilio_account_sid=reader.get("TWILIO_ACCOUNT_SID", _account_sid, None),
        twilio_auth_token=reader.get("TWILIO_AUTH_TOKEN", _secret, None),
    )
    if reader.wrong:
        raise ConfigError(*reader.wrong)
    return settings


class _Reader:
    """Reads one variable at a time and remembers what was wrong, to tell it all at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.wrong: list[WrongValue] = []
        self._environ = environ

    def get(self, variable: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value. `parse` raises ValueError with what is allowed."""
        value = self._environ.get(variable, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError as error:
            shown = "(hidden)" if variable in _SECRETS or "@" in value else value  # user:password@
            self.wrong.append(WrongValue(variable, shown, str(error)))
            return default


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        short_digits = value.isascii() and value.isdigit() and len(value) <= 12
        if not (short_digits and low <= int(value) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def _or_off(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    def parse_unless_off(value: str) -> T | None:
        if value.lower() == "off":
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"off, or {error}") from None

    return parse_unless_off


def _one_of(*numbers: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        return int(_choice([str(number) for number in numbers])(value))

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        allowed = f"seconds from {low:g} to {high:g}"
        try:
            seconds = float(value)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= seconds <= high:
            raise ValueError(allowed)
        return seconds

    return parse


def _choice(options: Sequence[S]) -> Callable[[str], S]:
    def parse(value: str) -> S:
        for option in options:
            if value.lower() == option.lower():
                return option
        raise ValueError(f"one of {', '.join(options)}")

    return parse


def _level(value: str) -> str:
    return _choice(LOG_LEVELS)(value.upper())


def _flag(value: str) -> bool:
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise ValueError("yes or no")


def _host(value: str) -> str:
    allowed = "an address or host name to listen on, such as 127.0.0.1 or 0.0.0.0"
    try:
        value.encode("idna")
    except UnicodeError:
        raise ValueError(allowed) from None
    if any(char.isspace() or char in "/@?#" for char in value):
        raise ValueError(allowed)
    return value


def _account_sid(value: str) -> str:
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", value):
        raise ValueError("AC followed by 32 hexadecimal digits, from Twilio's console")
    return value


def _secret(value: str) -> str:
    if any(char.isspace() for char in value):
        raise ValueError("a token without spaces, from Twilio's console")
    return value


def _existing_file(value: str) -> Path:
    allowed = "the path of a file that exists"
    try:
        path = Path(value).expanduser()
        exists = path.is_file()
    except (OSError, RuntimeError):  # too long, no permission to look, or no such home
        raise ValueError(allowed) from None
    if not exists:
        raise ValueError(allowed)
    return path


def _ringback(value: str) -> str | Path | None:
    name = value.lower()
    if name == "off":  # not `_NO`: "no" is Norway
        return None
    if name in RINGBACK_COUNTRIES:
        return name
    try:
        return _existing_file(value)
    except ValueError:
        countries = ", ".join(RINGBACK_COUNTRIES)
        raise ValueError(
            f"off, the path of a sound file that exists, or a country: {countries}"
        ) from None


def _public_url(value: str) -> str:
    allowed = "https://host (Twilio needs TLS; http only for this machine), without path or query"
    parts = _split(value, allowed)
    if parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query:
        raise ValueError(allowed)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError(allowed)
    return f"{parts.scheme}://{parts.netloc}"


def _personaplex_url(value: str) -> str:
    allowed = "ws://, wss://, http:// or https://, a host, with or without /api/chat, no query"
    parts = _split(value, allowed)
    scheme = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or parts.query:
        raise ValueError(allowed)
    path = parts.path.rstrip("/").removesuffix(CHAT_PATH)
    return f"{scheme}://{parts.netloc}{path}{CHAT_PATH}"


def _split(value: str, allowed: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        (parts.hostname or "").encode("idna")  # UnicodeError, a ValueError: no host name
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ValueError(allowed) from None
    if any(char.isspace() for char in value) or not usable:
        raise ValueError(allowed)
    if parts.username is not None or parts.fragment:
        raise ValueError(allowed)
    return parts
