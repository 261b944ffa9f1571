"""What the value of a setting may be: parsers that raise ValueError with what is allowed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import SplitResult, urlsplit

T = TypeVar("T")
S = TypeVar("S", bound=str)

CHAT_PATH = "/api/chat"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

MAX_LISTED = 100
"""Most entries of a list, such as the addresses of model servers."""

MAX_CAPACITY = 1000

_DATABASES = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
"""What may be asked for, and the drivers we speak with."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_YES, _NO = frozenset({"1", "yes", "true", "on"}), frozenset({"0", "no", "false", "off"})


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A model server: ws or wss, ending in /api/chat, and how many calls it takes at a time."""

    url: str
    capacity: int | None = None
    """None: what PERSONAPLEX_CAPACITY says."""


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number."""

    def parse(value: str) -> int:
        short_digits = value.isascii() and value.isdigit() and len(value) <= 12
        if not (short_digits and low <= int(value) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def or_off(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """What `parse` takes, or `off`, which is None."""

    def parse_unless_off(value: str) -> T | None:
        if value.lower() == "off":
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"off, or {error}") from None

    return parse_unless_off


def one_of(*numbers: int) -> Callable[[str], int]:
    """One of a few numbers."""

    def parse(value: str) -> int:
        return int(choice([str(number) for number in numbers])(value))

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds."""

    def parse(value: str) -> float:
        allowed = f"seconds from {low:g} to {high:g}"
        try:
            number = float(value)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= number <= high:
            raise ValueError(allowed)
        return number

    return parse


def choice(options: Sequence[S]) -> Callable[[str], S]:
    """One of a few words, in any case."""

    def parse(value: str) -> S:
        for option in options:
            if value.lower() == option.lower():
                return option
        raise ValueError(f"one of {', '.join(options)}")

    return parse


def listed(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """One or several of what `parse` takes, with commas or spaces between them."""

    def parse_all(value: str) -> tuple[T, ...]:
        parts = value.replace(",", " ").split()
        if not 1 <= len(parts) <= MAX_LISTED:
            raise ValueError(f"1 to {MAX_LISTED} entries with commas between them")
        return tuple(dict.fromkeys(parse(part) for part in parts))

    return parse_all


def flag(value: str) -> bool:
    """Yes or no."""
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise ValueError("yes or no")


def words(value: str) -> str:
    """A sentence or two that Twilio is to speak."""
    if len(value) > 500 or not value.isprintable():
        raise ValueError("up to 500 printable characters, in one line")
    return value


def language(value: str) -> str:
    """A language tag, such as en-US (BCP 47)."""
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", value):
        raise ValueError("a language that Twilio speaks, such as en-US or de-DE")
    return value


def host(value: str) -> str:
    """An address or host name to listen on."""
    allowed = "an address or host name to listen on, such as 127.0.0.1 or 0.0.0.0"
    try:
        value.encode("idna")
    except UnicodeError:
        raise ValueError(allowed) from None
    if any(char.isspace() or char in "/@?#" for char in value):
        raise ValueError(allowed)
    return value


def network(value: str) -> Network:
    """An address, or a network such as 10.0.0.0/8."""
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            "addresses or networks such as 127.0.0.1, 10.0.0.0/8, ::1, with commas between them"
        ) from None


def account_sid(value: str) -> str:
    """A Twilio account."""
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", value):
        raise ValueError("AC followed by 32 hexadecimal digits, from Twilio's console")
    return value


def bearer_token(value: str) -> str:
    """A token that fits into a header."""
    if not re.fullmatch(r"[!-~]+", value) or "," in value:
        raise ValueError("one token of ASCII characters without spaces or commas")
    return value


def long_token(value: str) -> str:
    """A token that people choose, and nobody guesses."""
    if not re.fullmatch(r"[!-~]{16,200}", value) or "," in value:
        raise ValueError(
            "16 to 200 ASCII characters without spaces or commas, such as `openssl rand -hex 32`"
        )
    return value


def secrets(value: str) -> tuple[str, ...]:
    """One or several tokens, with commas between them."""
    tokens = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    if len(tokens) > MAX_LISTED or not all(re.fullmatch(r"\S+", token) for token in tokens):
        raise ValueError("a token from Twilio's console, or several with commas between them")
    return tokens


def key(value: str) -> str:
    """A secret that something is keyed with."""
    if not re.fullmatch(r"\S{16,200}", value):
        raise ValueError(
            "16 to 200 characters without spaces, such as `openssl rand -hex 32` makes"
        )
    return value


def phone_number(value: str) -> str:
    """A number in E.164 form, or a SIP address."""
    if not re.fullmatch(r"\+[1-9]\d{6,14}|sips?:[^\s<>\"&]{3,200}", value, re.ASCII):
        raise ValueError("a number such as +15550100, or a SIP address such as sip:me@host.example")
    return value


def forward_target(value: str) -> str:
    """A number in E.164 form, a SIP address, or a client of Twilio's Voice SDK."""
    if re.fullmatch(r"client:[A-Za-z0-9_]{1,121}", value, re.ASCII):
        return value
    try:
        return phone_number(value)
    except ValueError as error:
        raise ValueError(f"{error}, or a softphone such as client:ann") from None


def existing_file(value: str) -> Path:
    """The path of a file."""
    allowed = "the path of a file that exists"
    try:
        path = Path(value).expanduser()
        exists = path.is_file()
    except (OSError, RuntimeError):  # too long, no permission to look, or no such home
        raise ValueError(allowed) from None
    if not exists:
        raise ValueError(allowed)
    return path


def folder(value: str) -> Path:
    """The path of a folder that is there or can be made."""
    allowed = "the path of a folder"
    try:
        path = Path(value).expanduser()
        is_something_else = path.exists() and not path.is_dir()
    except (OSError, RuntimeError):
        raise ValueError(allowed) from None
    if is_something_else:
        raise ValueError(allowed)
    return path


def public_url(value: str) -> str:
    """Scheme and host as Twilio sees them, without a trailing slash."""
    allowed = "https://host (Twilio needs TLS; http only for this machine), without path or query"
    parts = split(value, allowed)
    if parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query:
        raise ValueError(allowed)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError(allowed)
    return f"{parts.scheme}://{parts.netloc}"


def http_url(value: str) -> str:
    """An address that is asked with HTTP, without a trailing slash."""
    allowed = "http:// or https://, a host, with or without a path; no user, no query"
    parts = split(value, allowed)
    if parts.scheme not in ("http", "https") or parts.query:
        raise ValueError(allowed)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def server_address(value: str) -> ServerAddress:
    """A model server's address, and its capacity if that is given: ws://gpu:8998#capacity=4."""
    allowed = (
        "ws://, wss://, http:// or https://, a host, with or without /api/chat, no query; "
        f"#capacity=N (1 to {MAX_CAPACITY}) after it for a server that holds several calls"
    )
    address, hash_sign, fragment = value.partition("#")
    parts = split(address, allowed)
    scheme = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or parts.query:
        raise ValueError(allowed)
    capacity = None
    if hash_sign:
        number = re.fullmatch(r"capacity=(\d{1,4})", fragment, re.ASCII)
        if number is None or not 1 <= int(number[1]) <= MAX_CAPACITY:
            raise ValueError(allowed)
        capacity = int(number[1])
    path = parts.path.rstrip("/").removesuffix(CHAT_PATH)
    return ServerAddress(f"{scheme}://{parts.netloc}{path}{CHAT_PATH}", capacity)


def server_addresses(value: str) -> tuple[ServerAddress, ...]:
    """One or several model servers, each named once."""
    addresses = listed(server_address)(value)
    if len({address.url for address in addresses}) < len(addresses):
        raise ValueError("each model server once")
    return addresses


def is_overheard(url: str) -> bool:
    """Whether what is sent there goes unencrypted over a network that isn't private for certain.

    Hosts without a dot are those of a private network, such as a container's service name.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    if parts.scheme not in ("ws", "http") or name in LOOPBACK_HOSTS:
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith((".local", ".internal", ".localhost"))
    return not (address.is_private or address.is_link_local)


def redis_url(value: str) -> str:
    """The address of a Redis server; it may hold a password."""
    allowed = "redis://host:6379/0, rediss:// for TLS, or unix:///path/of/socket"
    try:
        parts = urlsplit(value)
        usable = bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    if parts.scheme not in ("redis", "rediss", "unix") or not usable:
        raise ValueError(allowed)
    return value


def database_url(value: str) -> str:
    """The address of a SQLite file or of a PostgreSQL database; it may hold a password."""
    allowed = (
        "sqlite:///relative/file.db, sqlite:////absolute/file.db, or "
        "postgresql://user:password@host:5432/database"
    )
    scheme, colon, rest = value.partition("://")
    driver = _DATABASES.get(scheme)
    if not colon or driver is None:
        raise ValueError(allowed)
    try:
        parts = urlsplit(f"//{rest}")
        is_file = not parts.netloc and len(parts.path) > 1 and parts.path != "/:memory:"
        is_server = bool(parts.hostname or "host=" in parts.query) and len(parts.path) > 1
        _ = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    if not (is_file if driver.startswith("sqlite") else is_server):
        raise ValueError(allowed)
    return f"{driver}://{rest}"


def split(value: str, allowed: str) -> SplitResult:
    """A URL with a usable host, without user or fragment; ValueError(allowed) for others."""
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
