"""`History`: what other programs ask of the calls that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ConfigError, HistoryError, WrongValue
from personaplex_bridge.history.backlog import Entry
from personaplex_bridge.history.calls import COLUMNS, Details, WholeCall, check_id, read_details
from personaplex_bridge.history.database import Database, database_url
from personaplex_bridge.history.deleting import Deleted, delete, purge
from personaplex_bridge.history.queries import (
    Page,
    Search,
    call_of,
    matching,
    page_of,
    select_calls,
)
from personaplex_bridge.history.recorder import Recorder
from personaplex_bridge.history.stats import Stats, gather
from personaplex_bridge.history.tables import calls, details

Progress = Callable[[int], None]
"""Is told how many calls are done."""


class History:
    """The calls that are kept. All methods may be called at any time, also beside each other.

    Each raises HistoryUnavailable if the database can't be reached. `recorder` is that of the
    bridge in this process, if one runs: what is deleted must not be written after all. In
    `recordings` are the calls' recordings, which are deleted with them.
    """

    def __init__(
        self,
        database: Database,
        recorder: Recorder | None = None,
        recordings: Path | None = None,
    ) -> None:
        self._database = database
        self._recorder = recorder
        self._recordings = recordings

    async def prepare(self) -> None:
        """Bring the tables to this version. Whatever is asked does that before."""
        await self._database.prepare()

    async def search(self, search: Search) -> Page:
        """A page of calls.

        Raises:
            HistoryError: the search can't be understood; says what of it.
        """
        async with self._database.reading() as connection:
            found = await connection.execute(self._select(search))
            return page_of(search, [call_of(row) for row in found])

    async def count(self, search: Search) -> int:
        """How many calls a search finds on all its pages.

        Raises:
            HistoryError: the search can't be understood; says what of it.
        """
        async with self._database.reading() as connection:
            counted = sa.select(sa.func.count()).select_from(calls).where(*self._matching(search))
            return int(await connection.scalar(counted) or 0)

    async def call(self, call_id: str) -> WholeCall | None:
        """A call with all that is kept of it; None if there is none with this id."""
        number = _number(call_id)
        async with self._database.reading() as connection:
            found = await connection.execute(_whole().where(calls.c.id == number))
            row = found.first()
            return None if row is None else _whole_of(row)

    async def whole_calls(self, search: Search) -> AsyncIterator[WholeCall]:
        """Every call that a search finds, however many, the oldest first.

        Raises:
            HistoryError: the search can't be understood; says what of it.
        """
        last = 0
        while True:
            # One page at a time, and none of the database's locks or states held in between.
            async with self._database.reading() as connection:
                beyond = _whole().where(*self._matching(search), calls.c.id > last)
                rows = (await connection.execute(beyond.order_by(calls.c.id).limit(200))).all()
            for row in rows:
                yield _whole_of(row)
            if not rows:
                return
            last = int(rows[-1][0])

    async def stats(self, search: Search | None = None) -> Stats:
        """Figures of all calls, or of those that a search finds.

        Raises:
            HistoryError: the search can't be understood; says what of it.
        """
        async with self._database.reading() as connection:
            return await gather(connection, self._matching(search or Search()))

    async def delete_call(self, call_id: str) -> bool:
        """Delete a call; whether there was one. Of one in progress here nothing more is kept."""
        number = _number(call_id)
        forgotten = await self._forget(lambda entry: entry.id == call_id)
        deleted = await delete(self._database, calls.c.id == number)
        await self._finish(deleted)
        return bool(deleted.ids or forgotten)

    async def delete_caller(self, number: str, progress: Progress = lambda done: None) -> int:
        """Delete all calls of a caller, by their whole number; how many there were.

        Nothing of them is left in the database, its indexes and its journal; nor are their
        recordings.
        """
        await self._database.prepare()
        wanted = self._database.hash_of(number)
        if not wanted:
            raise HistoryError("a number is needed: +15550100, or what Twilio said instead of one")
        waiting = set[str]()

        def theirs(entry: Entry) -> bool:
            known = entry.caller_hash or self._database.hash_of(entry.person)
            waiting.update({entry.id} if known == wanted else ())
            return known == wanted

        await self._forget(theirs)
        deleted = await delete(self._database, calls.c.caller_hash == wanted, progress)
        await self._finish(deleted)
        return len({int(call_id, 16) for call_id in waiting} | deleted.ids)

    async def _finish(self, deleted: Deleted) -> None:
        """See to what is left of deleted calls: their recordings, and what only looks deleted."""
        if self._recordings is not None:
            for name in deleted.recordings:
                # DATE/TIME-CALLSID.opus alone: no database can have us delete anything elsewhere.
                day, file_name = ("", *Path(name).parts)[-2:]
                file = self._recordings / day / file_name
                if day == ".." or file.suffix != ".opus":
                    continue
                # One that isn't complete, such as a bridge leaves that dies, has another name.
                for one in (file, file.with_name(f"{file.name}.part")):
                    try:
                        await asyncio.to_thread(one.unlink, missing_ok=True)
                    except OSError as error:
                        raise HistoryError(f"can't delete {one}: {error.strerror}") from error
        if deleted.ids:
            await purge(self._database)

    async def _forget(self, matches: Callable[[Entry], bool]) -> int:
        """Calls of this process; none of them is on its way to the database meanwhile."""
        if self._recorder is None:
            return 0
        async with self._database.writing:
            return self._recorder.forget(matches)

    def _select(self, search: Search) -> sa.Select[Any]:
        return select_calls(search, self._hash(search), is_sqlite=self._database.is_sqlite)

    def _matching(self, search: Search) -> list[sa.ColumnElement[bool]]:
        return matching(search, self._hash(search), is_sqlite=self._database.is_sqlite)

    def _hash(self, search: Search) -> str | None:
        return self._database.hash_of(search.number) if search.number.strip() else None


@asynccontextmanager
async def open_history(settings: Settings) -> AsyncIterator[History]:
    """The history of these settings, to read or delete in; nothing is recorded.

    Raises:
        ConfigError: there is no history; or DATABASE_URL can't be used.
    """
    if not settings.keeps_history:
        allowed = "on, or DATABASE_URL set, for there to be a history"
        value = "" if settings.history is None else "off"
        raise ConfigError(WrongValue("HISTORY", value, allowed))
    database = Database(database_url(settings), settings.history_key)
    try:
        yield History(database, recordings=settings.recordings_folder)
    finally:
        await database.close()


def _number(call_id: str) -> int:
    try:
        return check_id(call_id)
    except ValueError as error:
        raise HistoryError(str(error)) from None


def _whole() -> sa.Select[Any]:
    columns = [calls.c[name] for name in COLUMNS]
    parts = details.c.events, details.c.transcript, details.c.figures
    return sa.select(*columns, *parts).join_from(calls, details, isouter=True)


def _whole_of(row: sa.Row[Any]) -> WholeCall:
    events, transcript, figures = row[len(COLUMNS) :]
    if events is None:
        known = Details()
    else:
        known = read_details({"events": events, "transcript": transcript, "figures": figures})
    return WholeCall(call_of(row[: len(COLUMNS)]), known)
