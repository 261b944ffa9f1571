"""Calls past: what the console needs of a call history, and how it is asked. There may be none."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from personaplex_bridge.console.problems import Problem

MAX_LIMIT = 500
MAX_CHARS = 500
MAX_TEXT_CHARS = 200
"""Of words to search for."""

ID = "[0-7][0-9a-f]{15}"
"""What calls are asked for by: 63 bits."""
_CALL = re.compile(ID)

LINE = r"^[^\u0000-\u001f\u007f]*$"
"""Text without control characters, as JSON Schema and Python have it."""
_TEXT = re.compile(LINE)

SOMEBODY = r"^[^\u0000-\u001f\u007f]*[0-9A-Za-z][^\u0000-\u001f\u007f]*$"
"""The same, with something in it that names somebody."""
_SOMEBODY = re.compile(SOMEBODY)

_MASK = "***"
"""What numbers are shown with, instead of some digits: `callers.HIDDEN`."""

SORTS = ("started", "duration", "delay")
FORMATS = ("json", "csv")
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


@dataclass(frozen=True, slots=True)
class PastDeletion:
    """How much was deleted, and of which calls."""

    calls: int
    recordings: int
    recordings_missing: int
    """Recordings of these calls that were not found."""
    sids: frozenset[str] = field(default=frozenset(), repr=False)
    """The calls' SIDs, as calls in progress have them."""
    problem: str = ""
    """Why some calls could not be deleted; delete again when that is mended."""


FILTERS = (
    "text", "number", "persona", "outcome", "model_failed", "since", "until", "min_duration_s",
)  # fmt: skip
"""What says which calls, and not in which order."""

PRIVATE = ("text", "number")
"""Of these: what has no place in an address, which ends in logs."""


class PastCalls(Protocol):
    """A call history. Whatever is asked of it raises Problem 503 if it can't be reached."""

    async def search(self, search: PastSearch) -> Mapping[str, Any]:
        """A page: `calls`, a list of calls ready for JSON, and `next`, None on the last page.

        Raises:
            ValueError: the search can't be understood; says what of it.
        """
        ...

    async def call(self, call_id: str) -> Mapping[str, Any] | None:
        """A call with all that is kept of it, ready for JSON, and `has_recording`; None if there is
        none.
        """
        ...

    def export(self, search: PastSearch, form: str) -> AsyncGenerator[bytes]:
        """All calls that a search finds, as one of FORMATS, part by part. The first part comes
        whatever happens, errors with the second.

        Raises:
            ValueError: the search can't be understood; says what of it.
        """
        ...

    async def recording(self, call_id: str) -> Path | None:
        """The file of a call's recording, Ogg Opus; None if there is none.

        Raises:
            ValueError: that is no call's id.
        """
        ...

    async def delete_call(self, call_id: str) -> PastDeletion:
        """Delete a call.

        Raises:
            ValueError: that is no call's id.
        """
        ...

    async def delete_caller(self, number: str) -> PastDeletion:
        """Delete all of a caller, the same way; by their whole number.

        Raises:
            ValueError: it names nobody.
        """
        ...

    async def delete_caller_of(self, call_id: str) -> PastDeletion | None:
        """The same for whoever made a call; None if there is none.

        Raises:
            ValueError: nobody is known to have made it.
        """
        ...


def read_search(asked: object) -> PastSearch:
    """A search from its JSON.

    Raises:
        Problem: 400; says what is wrong, and what is allowed.
    """
    return PastSearch(**_read(asked, tuple(one.name for one in fields(PastSearch))))


def read_export(asked: object) -> tuple[PastSearch, str]:
    """What to export, and as which of FORMATS, from its JSON.

    Raises:
        Problem: 400; says what is wrong, and what is allowed.
    """
    found = _read(asked, (*FILTERS, "format"))
    form = found.pop("format", FORMATS[0])
    return PastSearch(**found), form


def read_query(asked: Iterable[tuple[str, str]]) -> tuple[PastSearch, str]:
    """The same from a query, which can't have all filters.

    Raises:
        Problem: 400; says what is wrong, and what is allowed.
    """
    found: dict[str, object] = {}
    for name, value in asked:
        if name in PRIVATE:
            raise Problem(400, f"{name} has no place in an address: POST it, as JSON")
        if name in found:
            raise Problem(400, f"{name} must be there once only")
        found[name] = _FROM_QUERY.get(name, str)(value)
    return read_export(found)


def read_caller(asked: object) -> tuple[str, str]:
    """Whose data to delete: `number` or `call`, and its value.

    Raises:
        Problem: 400; says what is wrong, and what is allowed.
    """
    found = _read(asked, ("number", "call"))
    if len(found) != 1:
        raise Problem(400, "either number or call must be there, and not both")
    ((name, value),) = found.items()
    allowed, what = (_SOMEBODY, "a number") if name == "number" else (_CALL, "a call's id")
    if not allowed.fullmatch(value):
        raise Problem(400, f"{name} must be {what}")
    return name, value


def _read(asked: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise Problem(400, "the body must be a JSON object")
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise Problem(400, f"{unknown[0][:40]!r} is unknown; there are {', '.join(known)}")
    return {name: _PARSERS[name](name, value) for name, value in asked.items()}


def _number_of(value: str) -> object:
    """What JSON has for it; other texts stay, and are refused."""
    return float(value) if _JSON_NUMBER.fullmatch(value) else value


_JSON_NUMBER = re.compile(r"-?\d{1,20}(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII)
_FROM_QUERY: Mapping[str, Callable[[str], object]] = {
    "model_failed": lambda value: {"true": True, "false": False}.get(value, value),
    "min_duration_s": _number_of,
}
"""How a query spells what is no text in JSON."""


def _line(max_chars: int) -> Callable[[str, object], str]:
    def parse(name: str, value: object) -> str:
        fits = isinstance(value, str) and len(value) <= max_chars and _TEXT.fullmatch(value)
        if not isinstance(value, str) or not fits:
            raise Problem(400, f"{name} must be a line of at most {max_chars} characters")
        return value

    return parse


def _whole_number(name: str, value: object) -> str:
    number = _line(MAX_CHARS)(name, value)
    if _MASK in number:
        raise Problem(400, f"{name} must be the whole number: no call is found by a masked one")
    return number


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
    "text": _line(MAX_TEXT_CHARS),
    "number": _whole_number,
    "persona": _line(MAX_CHARS),
    "outcome": _one_of(OUTCOMES),
    "model_failed": _flag,
    "since": _moment,
    "until": _moment,
    "min_duration_s": _seconds,
    "sort": _one_of(SORTS),
    "descending": _flag,
    "limit": _limit,
    "after": _line(MAX_CHARS),
    "format": _one_of(FORMATS),
    "call": _line(MAX_CHARS),
}
