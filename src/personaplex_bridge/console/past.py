"""Calls past: what the console needs of a call history, and how it is asked. There may be none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Protocol

from personaplex_bridge.console.problems import Problem

MAX_LIMIT = 500
MAX_CHARS = 500

ID = "[0-9a-f]{16}"
"""What calls are asked for by."""

LINE = r"^[^\u0000-\u001f\u007f]*$"
"""Text without control characters, as JSON Schema and Python have it."""
_TEXT = re.compile(LINE)

SORTS = ("started", "duration", "delay")
OUTCOMES = (
    "in-progress", "hung-up", "bridge-ended", "model-failed", "line-lost", "error", "lost",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PastSearch:
    """Which calls, and in which order. What is None or empty is not asked for."""

    text: str = field(default="", repr=False)
    """Words the model said."""
    number: str = field(default="", repr=False)
    """The caller's whole number."""
    persona: str = ""
    outcome: str = ""
    """One of OUTCOMES."""
    model_failed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_duration_s: float | None = None
    sort: str = SORTS[0]
    descending: bool = True
    limit: int = 50
    after: str = field(default="", repr=False)
    """`next` of the page before."""


class PastCalls(Protocol):
    """A call history."""

    async def search(self, search: PastSearch) -> Mapping[str, Any]:
        """A page: `calls`, a list of calls ready for JSON, and `next`, None on the last page.

        Raises:
            ValueError: the search can't be understood; says what of it.
        """
        ...

    async def call(self, call_id: str) -> Mapping[str, Any] | None:
        """A call with all that is kept of it, ready for JSON; None if there is none."""
        ...


def read_search(asked: object) -> PastSearch:
    """A search from its JSON.

    Raises:
        Problem: 400; says what is wrong, and what is allowed.
    """
    if not isinstance(asked, dict):
        raise Problem(400, "the body must be a JSON object")
    known = [one.name for one in fields(PastSearch)]
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise Problem(400, f"{unknown[0][:40]!r} is unknown; there are {', '.join(known)}")
    return PastSearch(**{name: _PARSERS[name](name, value) for name, value in asked.items()})


def _text(name: str, value: object) -> str:
    fits = isinstance(value, str) and len(value) <= MAX_CHARS and _TEXT.fullmatch(value)
    if not isinstance(value, str) or not fits:
        raise Problem(400, f"{name} must be a line of at most {MAX_CHARS} characters")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[str, object], str]:
    def parse(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Problem(400, f"{name} must be one of {', '.join(words)}")
        return value

    return parse


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Problem(400, f"{name} must be true or false")
    return value


def _moment(name: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Problem(400, f"{name} must be a time with its zone, such as 2030-01-31T12:00:00Z")
    return moment


def _seconds(name: str, value: object) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e6
    if not fits or not math.isfinite(value):  # type: ignore[arg-type]
        raise Problem(400, f"{name} must be a number of seconds from 0 to 1000000")
    return float(value)  # type: ignore[arg-type]


def _limit(name: str, value: object) -> int:
    # In JSON 9.0 is a whole number, too.
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or not 1 <= value <= MAX_LIMIT:  # type: ignore[operator]
        raise Problem(400, f"{name} must be a whole number from 1 to {MAX_LIMIT}")
    return int(value)  # type: ignore[call-overload, no-any-return]


_PARSERS: Mapping[str, Callable[[str, object], Any]] = {
    "text": _text,
    "number": _text,
    "persona": _text,
    "outcome": _one_of(OUTCOMES),
    "model_failed": _flag,
    "since": _moment,
    "until": _moment,
    "min_duration_s": _seconds,
    "sort": _one_of(SORTS),
    "descending": _flag,
    "limit": _limit,
    "after": _text,
}
