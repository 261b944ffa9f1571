"""Keys of a TOML file, checked one by one: parsers that raise ValueError with what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

from personaplex_bridge.errors import WrongValue
from personaplex_bridge.runpod.answers import Cloud

T = TypeVar("T")

_SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
"""In the name of a key whose value is nobody's business."""

_NEEDS_SECRET = re.compile(r"(^|_)(TOKEN|(API|ACCESS)_KEY|SECRET|PASSWORD)$", re.IGNORECASE)
"""The name of an environment variable that holds a secret; TOKENIZERS_PARALLELISM doesn't."""


class Table:
    """Reads a table key by key, and remembers what was wrong and what was asked for.

    `prefix` is what its keys are called by in errors: `pod.toml: ` or `pod.toml: gpu.`.
    """

    def __init__(self, table: object, prefix: str, wrong: list[WrongValue]) -> None:
        self.wrong = wrong
        self._prefix = prefix
        self._known: list[str] = []
        self._is_table = isinstance(table, dict)
        self._table: Mapping[str, Any] = table if isinstance(table, dict) else {}
        if not self._is_table:
            wrong.append(WrongValue(self.name, str(table)[:40], "a table"))

    @property
    def name(self) -> str:
        """What the table is called in errors."""
        return self._prefix.rstrip(".")

    def table(self, name: str) -> Table:
        """A table within this one; an empty one if it isn't there."""
        self._known.append(name)
        return Table(self._table.get(name, {}), f"{self._prefix}{name}.", self.wrong)

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return name in self._table

    def get(self, name: str, parse: Callable[[Any], T], *default: T) -> T:
        """The parsed value. Without a default the key must be there."""
        self._known.append(name)
        if name not in self._table and (default or not self._is_table):
            return default[0] if default else cast("T", None)
        try:
            return parse(self._table.get(name))
        except ValueError as error:
            self._refuse(name, str(error))
            return cast("T", None)

    def refuse_unknown(self) -> None:
        """Every key that was not asked for is wrong."""
        for name in sorted(self._table.keys() - set(self._known)):
            self._refuse(name, f"there are {', '.join(self._known)}")

    def _refuse(self, name: str, allowed: str) -> None:
        # What stands in `env`, or wherever somebody has put it, may be a secret.
        hidden = name == "env" or _SECRET.search(name)
        shown = "(hidden)" if hidden else str(self._table.get(name, ""))[:80]
        self.wrong.append(WrongValue(f"{self._prefix}{name}", shown, allowed))


def text(value: Any) -> str:
    """A text in one line."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("a text in one line, not empty")
    return value


def optional(parse: Callable[[Any], str]) -> Callable[[Any], str | None]:
    """What `parse` takes, or the empty text, which is None."""
    return lambda value: None if value == "" else parse(value)


def name(value: Any) -> str:
    """A pod's name."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", value, re.ASCII):
        raise ValueError("a name of up to 63 letters, digits, dots and hyphens")
    return value


def image(value: Any) -> str:
    """A container image with its tag or digest."""
    # Upper case belongs into a tag only, so the file's own placeholder is refused too.
    pattern = r"[a-z0-9][a-z0-9._/-]*(:\d+[a-z0-9._/-]*)?(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})"
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(
            "an image with its tag, in lower case, such as ghcr.io/you/personaplex:1.0 (build and "
            "push yours with ./scripts/image push personaplex --to ghcr.io/you, see docs/runpod.md)"
        )
    return value


def texts(least: int) -> Callable[[Any], tuple[str, ...]]:
    """A list of texts, of at least so many."""

    def parse(value: Any) -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or len(value) < least
            or len(set(map(str, value))) < len(value)
        ):
            raise ValueError(f"a list of {'one or more texts' if least else 'texts'}, each once")
        return tuple(text(item) for item in value)

    return parse


def clouds(value: Any) -> tuple[Cloud, ...]:
    """Clouds, the preferred one first."""
    allowed = {"SECURE", "COMMUNITY"}
    clouds = texts(1)(value) if isinstance(value, list) else ()
    if not clouds or set(clouds) - allowed:
        raise ValueError('a list of "SECURE", "COMMUNITY" or both, the preferred one first')
    return cast("tuple[Cloud, ...]", clouds)


def one_of(*words: str) -> Callable[[Any], str]:
    """One of a few words."""

    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return parse


def price(value: Any) -> float:
    """USD an hour."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise ValueError("USD an hour, above 0")
    return float(value)


def version(value: Any) -> str:
    """A version of CUDA."""
    if not isinstance(value, str) or not re.fullmatch(r"\d+\.\d+", value, re.ASCII):
        raise ValueError('a version such as "12.1"')
    return value


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A whole number."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def path(value: Any) -> str:
    """An absolute path within the container."""
    path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath()
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise ValueError("an absolute path within the container, such as /workspace")
    return str(path)


def ports(value: Any) -> tuple[str, ...]:
    """Ports that the pod exposes, an HTTP port among them."""
    ports = texts(1)(value)
    for port in ports:
        found = re.fullmatch(r"(\d{1,5})/(http|tcp)", port, re.ASCII)
        if found is None or not 1 <= int(found[1]) <= 65535:
            raise ValueError('a list such as ["8998/http"], each PORT/http or PORT/tcp')
    if not any(port.endswith("/http") for port in ports):
        raise ValueError("one HTTP port at least, which the gate is reached by: 8998/http")
    if "8999/http" in ports or "8999/tcp" in ports:
        raise ValueError("not 8999: the model server itself listens there, and lets everybody in")
    return ports


def env(value: Any) -> dict[str, str]:
    """Environment variables; what looks like a secret must be a reference to one of RunPod's."""
    if not isinstance(value, dict):
        raise ValueError("a table of texts")
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or not isinstance(text, str):
            raise ValueError(f"names of variables and texts; {name} is not (numbers need quotes)")
        reference = re.fullmatch(r"\{\{ RUNPOD_SECRET_\w+ \}\}", text, re.ASCII)
        if _NEEDS_SECRET.search(name) and text and reference is None:
            raise ValueError(
                f"{name} as a reference to a secret of RunPod's, such as "
                f'"{{{{ RUNPOD_SECRET_{name} }}}}", so that it stands in no file and no request'
            )
    return dict(value)
