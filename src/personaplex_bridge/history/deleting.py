"""Deleting calls: a few at a time, so that nobody waits for long; and without leftovers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from personaplex_bridge.history.database import LOCKED_S, Database, told
from personaplex_bridge.history.tables import calls, details

BATCH = 100
"""Calls deleted in one transaction: some milliseconds."""

PAUSE_S = 0.02
"""Between two of them, for those who want to write."""

_MERGE_PAGES = 200
"""What one step of tidying up FTS5's index may write."""
_MAX_MERGES = 10_000


@dataclass(slots=True)
class Deleted:
    """What there was."""

    ids: set[int] = field(default_factory=set)
    sids: set[str] = field(default_factory=set, repr=False)


async def _keep(_figures: Mapping[str, Any]) -> bool:
    """Recordings are somebody else's."""
    return True


async def delete(
    database: Database,
    condition: sa.ColumnElement[bool],
    progress: Callable[[int], None] = lambda done: None,
    remove: Callable[[Mapping[str, Any]], Awaitable[bool]] = _keep,
) -> Deleted:
    """Delete the calls that meet a condition.

    `remove` is given each call's figures first, to delete the recording that they name; a call
    whose recording can't be deleted is kept, since nothing else knows of the file.

    Raises:
        HistoryUnavailable: the database fails; some may be deleted.
    """
    deleted, last = Deleted(), 0
    some = (
        sa.select(calls.c.id, calls.c.call_sid, calls.c.stream_sid, details.c.figures)
        .join_from(calls, details, isouter=True)
        .order_by(calls.c.id)
        .limit(BATCH)
    )
    while True:
        async with database.reading() as connection:
            rows = (await connection.execute(some.where(condition, calls.c.id > last))).all()
        gone = [row for row in rows if await remove(row.figures or {})]
        if ids := [int(row.id) for row in gone]:
            async with database.writing, database.changing() as connection:
                await connection.execute(sa.delete(details).where(details.c.id.in_(ids)))
                await connection.execute(sa.delete(calls).where(calls.c.id.in_(ids)))
        deleted.ids.update(ids)
        deleted.sids.update(row.call_sid or row.stream_sid for row in gone)
        if len(rows) < BATCH:
            return deleted
        last = int(rows[-1].id)
        progress(len(deleted.ids))
        await asyncio.sleep(PAUSE_S)


async def purge(database: Database) -> None:
    """Leave nothing of deleted calls in places where only a reader of files would find it.

    Raises:
        HistoryUnavailable: the database fails.
    """
    if database.is_sqlite:
        await _merge_index(database)
        async with database.writing:
            with told():
                await asyncio.to_thread(_empty_journal, database.file)
    else:
        with told():
            engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
            async with engine.connect() as connection:
                await connection.execute(sa.text("VACUUM calls, details"))


def _empty_journal(file: str) -> None:
    connection = sqlite3.connect(file, timeout=LOCKED_S)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


async def _merge_index(database: Database) -> None:
    """FTS5 marks what is deleted, and drops it when it merges (https://www.sqlite.org/fts5.html,
    6.8): so have it merge all, step by step.
    """
    pages = -_MERGE_PAGES  # negative once: all of the index, not only what is due
    for _ in range(_MAX_MERGES):
        async with database.writing, database.changing() as connection:
            before = await connection.scalar(sa.text("SELECT total_changes()"))
            await connection.execute(
                sa.text("INSERT INTO search(search, rank) VALUES ('merge', :pages)"),
                {"pages": pages},
            )
            after = await connection.scalar(sa.text("SELECT total_changes()"))
        if (after or 0) - (before or 0) < 2:
            return
        pages = _MERGE_PAGES
        await asyncio.sleep(PAUSE_S)
