"""Calls as JSON or CSV, as they are read: however many, they never are in memory all at once."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from enum import StrEnum

import orjson

from personaplex_bridge.history.calls import COLUMNS, WholeCall
from personaplex_bridge.history.queries import Search
from personaplex_bridge.history.store import History, Progress

CSV_COLUMNS = (*COLUMNS, "transcript")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes spreadsheets take a text for a formula (https://owasp.org/www-community/attacks/CSV_Injection);
a quote in front makes it a text.
"""


class Format(StrEnum):
    """What to export as."""

    JSON = "json"
    """An array of calls with all that is kept of them."""
    CSV = "csv"
    """A line for each call, with its columns and transcript; without events and further figures."""


async def export(
    history: History, search: Search, form: Format, progress: Progress = lambda done: None
) -> AsyncGenerator[bytes]:
    """All calls that a search finds, the oldest first, in UTF-8; its order and page don't matter.

    Raises:
        HistoryError: the search can't be understood.
        HistoryUnavailable: the database fails; what came so far is not complete.
    """
    yield b"[" if form is Format.JSON else _csv_line(CSV_COLUMNS)
    done = 0
    async for whole in history.whole_calls(search):
        if form is Format.JSON:
            yield (b",\n" if done else b"\n") + orjson.dumps(whole.as_dict())
        else:
            yield _csv_line(_cells(whole))
        done += 1
        progress(done)
    if form is Format.JSON:
        yield b"\n]\n"


def _cells(whole: WholeCall) -> list[str]:
    known = whole.call.as_dict()
    cells = [_cell(known[name]) for name in COLUMNS]
    return [*cells, _cell("\n".join(phrase.text for phrase in whole.details.phrases))]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _csv_line(cells: list[str] | tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # RFC 4180
    return text.getvalue().encode()
