"""What can be searched for, and how each database is asked."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
import sqlalchemy as sa

from personaplex_bridge.errors import HistoryError
from personaplex_bridge.history.calls import COLUMNS, MAX_ID, Call, Outcome, first_id, id_text
from personaplex_bridge.history.tables import calls, details
from personaplex_bridge.history.transcript import search_words

MAX_LIMIT = 500
"""Calls of a page."""

MAX_TEXT_CHARS = 200


class Sort(StrEnum):
    """What a list may be sorted by."""

    STARTED = "started"
    DURATION = "duration"
    DELAY = "delay"
    """The median turn-taking delay. Calls in which nobody answered are left out."""
    BARGE_INS = "barge-ins"


_SORTED_BY: dict[Sort, sa.Column[int] | sa.Column[float]] = {
    Sort.STARTED: calls.c.id,  # ids are in the order of time
    Sort.DURATION: calls.c.duration_s,
    Sort.DELAY: calls.c.turn_delay_s,
    Sort.BARGE_INS: calls.c.barge_ins,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which calls, and in which order. What is None or empty is not asked for."""

    text: str = field(default="", repr=False)
    """Words the model said, all of them; "several words" stand in a row, begin* is a beginning."""
    number: str = field(default="", repr=False)
    """The caller's whole number. It is looked for by its hash."""
    persona: str = ""
    outcome: Outcome | None = None
    model_failed: bool | None = None
    since: datetime | None = None
    """Calls that began then or later; a time zone is needed."""
    until: datetime | None = None
    """Calls that began before."""
    min_duration_s: float | None = None
    sort: Sort = Sort.STARTED
    descending: bool = True
    """The newest, longest, slowest first."""
    limit: int = 50
    """At most so many, 1 to 500."""
    after: str = field(default="", repr=False)
    """`Page.next`, for the page after it."""


@dataclass(frozen=True, slots=True)
class Page:
    """Calls found. `next` is what `Search.after` has to be for more; None if there are none."""

    calls: tuple[Call, ...]
    next: str | None


def select_calls(search: Search, caller_hash: str | None, *, is_sqlite: bool) -> sa.Select[Any]:
    """The statement for a page, and one call more.

    Raises:
        HistoryError: the search can't be understood.
    """
    if not 1 <= search.limit <= MAX_LIMIT:
        raise HistoryError(f"limit: {search.limit} is not from 1 to {MAX_LIMIT}")
    key = _SORTED_BY[search.sort]
    order = [column.desc() if search.descending else column for column in (key, calls.c.id)]
    conditions = matching(search, caller_hash, is_sqlite=is_sqlite)
    if search.sort is Sort.DELAY:
        conditions.append(key.is_not(None))
    if search.after:
        conditions.append(_beyond(search, key))
    chosen = [calls.c[name] for name in COLUMNS]
    order = order[:1] if key is calls.c.id else order
    return sa.select(*chosen).where(*conditions).order_by(*order).limit(search.limit + 1)


def matching(
    search: Search, caller_hash: str | None, *, is_sqlite: bool
) -> list[sa.ColumnElement[bool]]:
    """The conditions of a search; its order and page are left aside. `caller_hash` is `number`'s.

    Raises:
        HistoryError: the text can't be searched for, or a time has no zone.
    """
    found: list[sa.ColumnElement[bool]] = []
    for name in ("since", "until"):
        moment: datetime | None = getattr(search, name)
        if moment is not None and moment.tzinfo is None:
            raise HistoryError(f"{name}: {moment.isoformat()} has no time zone")
    if search.since is not None:
        found.append(calls.c.id >= first_id(search.since))
    if search.until is not None:
        found.append(calls.c.id < first_id(search.until))
    if search.persona:
        found.append(calls.c.persona == search.persona)
    if search.outcome is not None:
        found.append(calls.c.outcome == str(search.outcome))
    if search.model_failed is not None:
        found.append(calls.c.model_failed == search.model_failed)
    if search.min_duration_s is not None:
        found.append(calls.c.duration_s >= search.min_duration_s)
    if caller_hash is not None:
        found.append(calls.c.caller_hash == caller_hash)
    if search.text.strip():
        # The plus keeps SQLite from fetching every call with a common word, to sort them: it goes
        # through the index of the order instead, until the page is full.
        in_order = is_sqlite and search.sort is not Sort.STARTED
        key: sa.ColumnElement[int] = sa.literal_column("+calls.id") if in_order else calls.c.id
        found.append(key.in_(_said(search.text, is_sqlite=is_sqlite)))
    return found


def page_of(search: Search, found: list[Call]) -> Page:
    """A page, of one call more than it may have."""
    shown = tuple(found[: search.limit])
    return Page(shown, _cursor(search, shown[-1]) if len(found) > search.limit else None)


def _said(text: str, *, is_sqlite: bool) -> sa.Select[Any]:
    """The ids of calls in which the model said something."""
    terms = _terms(text)
    if is_sqlite:
        query = " ".join(f'"{" ".join(words)}"{"*" * begins}' for words, begins in terms)
        rowid: sa.ColumnClause[int] = sa.column("rowid", sa.BigInteger)
        matches = sa.literal_column("search").op("MATCH")(query)
        return sa.select(rowid).select_from(sa.table("search")).where(matches)
    query = " & ".join(_in_a_row(words, begins=begins) for words, begins in terms)
    asked = sa.func.to_tsquery(sa.literal_column("'simple'::regconfig"), query)
    found = sa.literal_column("details.words").op("@@")(asked)
    return sa.select(details.c.id).where(found)


def _in_a_row(words: list[str], *, begins: bool) -> str:
    quoted = [f"'{word}'" for word in words]  # letters and digits only: nothing to escape
    return f"({' <-> '.join(quoted)}{':*' * begins})"


def _terms(text: str) -> list[tuple[list[str], bool]]:
    """Words in a row, and whether the last is a beginning only."""
    if len(text) > MAX_TEXT_CHARS:
        raise HistoryError(f"text: {len(text)} characters are more than {MAX_TEXT_CHARS}")
    terms = []
    for quoted, plain in re.findall(r'"([^"]*)"|([^\s"]+)', text):
        if words := search_words(quoted or plain):
            terms.append((words, plain.endswith("*")))
    if not terms:
        raise HistoryError("text: it has neither letters nor digits to search for")
    return terms


def _beyond(search: Search, key: sa.Column[int] | sa.Column[float]) -> sa.ColumnElement[bool]:
    """Of calls that come after the page with this cursor."""
    try:
        sort, descending, value, call_id = orjson.loads(base64.urlsafe_b64decode(search.after))
        usable = isinstance(value, int | float) and isinstance(call_id, int)
        usable = usable and 0 <= call_id <= MAX_ID and abs(value) <= MAX_ID
    except (ValueError, TypeError, binascii.Error):
        usable = False
    if not usable or (sort, descending) != (search.sort, search.descending):
        raise HistoryError("after: not what a page of the same order gave as its next")
    if key is calls.c.id:
        return sa.and_(key < call_id if descending else key > call_id)
    here = sa.tuple_(key, calls.c.id)
    there = sa.tuple_(sa.literal(value, key.type), sa.literal(call_id, sa.BigInteger))
    beyond: sa.ColumnElement[bool] = here < there if descending else here > there
    return beyond


def _cursor(search: Search, last: Call) -> str:
    number = int(last.id, 16)
    value = {
        Sort.STARTED: number,
        Sort.DURATION: last.duration_s,
        Sort.DELAY: last.turn_delay_s,
        Sort.BARGE_INS: last.barge_ins,
    }[search.sort]
    known = orjson.dumps([search.sort, search.descending, value, number])
    return base64.urlsafe_b64encode(known).decode()


def call_of(row: Sequence[Any]) -> Call:
    """A row of `calls`, with the columns of COLUMNS."""
    columns = dict(zip(COLUMNS, row, strict=True))
    columns["id"] = id_text(columns["id"])
    columns["outcome"] = Outcome(columns["outcome"])
    return Call(**columns)
