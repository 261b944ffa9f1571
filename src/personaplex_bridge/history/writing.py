"""Writes calls to the database: in the background, in small batches, until it works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Any

import sqlalchemy as sa

from personaplex_bridge import logs
from personaplex_bridge.errors import BridgeError, HistoryUnavailable
from personaplex_bridge.history.backlog import Backlog, Entry
from personaplex_bridge.history.calls import Outcome, check_id
from personaplex_bridge.history.database import Database
from personaplex_bridge.history.spool import Spool
from personaplex_bridge.history.tables import calls, details
from personaplex_bridge.history.transcript import search_text

BATCH = 10
"""Calls written at a time. While they are made ready nothing else happens in the process, so the
less the better for calls in progress (docs/history.md has what it comes to).
"""

GATHER_S = 0.25
"""How long a call waits for others to be written with it."""

WRITE_S = 10.0
"""How long writing a batch may take."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Between attempts while the database is away; each pause twice the one before."""

_DATA_ERRORS = ("22", "23")
"""SQLSTATEs of which the values are to blame, not the database."""

_VALUE_ERRORS = (ArithmeticError, TypeError, ValueError)
"""What drivers raise before they have sent anything."""

_log = logging.getLogger(logs.NAME)


class Writer:
    """Moves entries from the backlog to the database. `run` it; afterwards `finish`.

    `began` is an id of the moment this process began: older calls of this bridge that are still in
    progress were lost with the process before.
    """

    def __init__(
        self, database: Database, backlog: Backlog, spool: Spool, bridge: str, began: int
    ) -> None:
        self._database = database
        self._backlog = backlog
        self._spool = spool
        self._bridge = bridge
        self._began = began
        self._due = asyncio.Event()
        self._is_ready = False
        self._is_away = False
        self._told_full = False

    def has_more(self) -> None:
        """There is something in the backlog."""
        self._due.set()
        if not self._told_full and self._backlog.skipped + self._backlog.dropped:
            self._told_full = True
            _log.error(
                "history: more calls wait for the database than can; the oldest are forgotten"
            )

    async def run(self) -> None:
        """Write whatever comes, for ever."""
        pause_s = FIRST_PAUSE_S
        while True:
            if await self._try():
                pause_s = FIRST_PAUSE_S
                await self._due.wait()
                await asyncio.sleep(GATHER_S)
            else:
                await asyncio.sleep(pause_s * random.uniform(0.8, 1.0))  # noqa: S311
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def finish(self, within_s: float) -> None:
        """Write what is left, within so long; what can't be goes into the spool."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._try()
        left = self._backlog.take(len(self._backlog))
        if not left:
            return
        hash_of = self._database.hash_of if self._database.has_key else None
        try:
            self._spool.add(left, hash_of)
        except OSError as error:
            _log.error("history: %d calls are lost: %s", len(left), error.strerror)
        else:
            _log.warning("history: %d calls are kept in a file until the next start", len(left))

    async def _try(self) -> bool:
        """Write all that there is; whether that went well."""
        try:
            await self._make_ready()
            while len(self._backlog):
                self._due.clear()
                await self._write_some()
        except (BridgeError, OSError) as error:  # the spool's too; a TimeoutError is one
            if not self._is_away:
                self._is_away = True
                _log.error("history: %s; calls wait in memory", str(error) or "no answer in time")
            return False
        if self._is_away:
            self._is_away = False
            _log.info("history: the database is back, and has all calls")
        return True

    async def _make_ready(self) -> None:
        """Once: what the process before has left behind."""
        if self._is_ready:
            return
        await self._database.prepare()
        kept = 0
        for batch in self._spool.batches(BATCH):
            await self._write(batch)
            kept += len(batch)
        self._spool.remove()
        if kept or self._spool.broken:
            _log.info(
                "history: %d calls of the last run written, %d unreadable", kept, self._spool.broken
            )
        await self._close_lost()
        self._is_ready = True

    async def _close_lost(self) -> None:
        """Calls that this bridge had when it died, and so nobody has."""
        theirs = calls.c.bridge == self._bridge, calls.c.id < self._began
        lost = sa.update(calls).where(calls.c.outcome == str(Outcome.IN_PROGRESS), *theirs)
        values = {
            "outcome": str(Outcome.LOST),
            "ended_at": calls.c.updated_at,
            "ended_by": "bridge",
            "ended_reason": "lost with its bridge",
        }
        async with self._database.writing, self._database.changing() as connection:
            result = await connection.execute(lost.values(values))
        if result.rowcount:
            _log.warning("history: %d calls were lost with the last run", result.rowcount)

    async def _write_some(self) -> None:
        # Held until what can't be written is back: who deletes finds each call somewhere.
        async with self._database.writing:
            batch = self._backlog.take(BATCH)
            try:
                await self._write_held(batch)
            except BaseException:
                self._backlog.put_back(batch)
                raise

    async def _write(self, batch: list[Entry]) -> None:
        async with self._database.writing:
            await self._write_held(batch)

    async def _write_held(self, batch: list[Entry]) -> None:
        try:
            await self._insert(batch)
        except (HistoryUnavailable, *_VALUE_ERRORS) as error:
            if not _values_are_to_blame(error):
                raise
            await self._write_singly(batch)

    async def _write_singly(self, batch: list[Entry]) -> None:
        """One call has something that the database can't take: the others need not suffer."""
        for entry in batch:
            try:
                await self._insert([entry])
            except (HistoryUnavailable, *_VALUE_ERRORS) as error:
                if not _values_are_to_blame(error):
                    raise
                what = type(error.__cause__ or error).__name__
                _log.error("history: call %s can't be kept: %s", entry.id, what)

    async def _insert(self, batch: list[Entry]) -> None:
        rows, more = [], []
        for entry in batch:
            rows.append(_row(entry, self._database))
            more.append(_details_row(entry))
            await asyncio.sleep(0)  # an hour's transcript takes milliseconds: others come first
        async with asyncio.timeout(WRITE_S), self._database.changing() as connection:
            insert = self._database.upsert(calls)
            newer = {name: insert.excluded[name] for name in rows[0] if name != "id"}
            # A call that is over isn't in progress again.
            sensible = calls.c.ended_at.is_(None) | insert.excluded.ended_at.is_not(None)
            upsert = insert.on_conflict_do_update(
                index_elements=[calls.c.id], set_=newer, where=sensible
            )
            await connection.execute(upsert, rows)
            insert = self._database.upsert(details)
            newer = {name: insert.excluded[name] for name in more[0] if name != "id"}
            upsert = insert.on_conflict_do_update(index_elements=[details.c.id], set_=newer)
            await connection.execute(upsert, more)


def _row(entry: Entry, database: Database) -> dict[str, Any]:
    call = entry.whole.call
    row = {column.name: getattr(call, column.name, None) for column in calls.c}
    row["id"] = check_id(call.id)
    row["outcome"] = str(call.outcome)
    row["caller_hash"] = entry.caller_hash or database.hash_of(entry.person)
    return row


def _details_row(entry: Entry) -> dict[str, Any]:
    known = entry.whole.details
    text = search_text(known.phrases)
    return {"id": check_id(entry.id), **known.as_dict(), "text": text}


def _values_are_to_blame(error: Exception) -> bool:
    if isinstance(error, _VALUE_ERRORS):
        return True
    cause = error.__cause__
    state = getattr(getattr(cause, "orig", None), "sqlstate", None) or ""
    is_driver = isinstance(cause, sa.exc.DBAPIError)
    blamed = isinstance(cause, sa.exc.DataError | sa.exc.IntegrityError)
    is_ours = isinstance(cause, sa.exc.StatementError) and not is_driver
    return blamed or is_ours or state.startswith(_DATA_ERRORS)
