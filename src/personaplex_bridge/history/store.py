"""`History`: what other programs ask of the calls that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ConfigError, HistoryError, WrongValue
from personaplex_bridge.history.backlog import Entry
from personaplex_bridge.history.calls import (
    COLUMNS,
    Details,
    Outcome,
    WholeCall,
    check_id,
    read_details,
)
from personaplex_bridge.history.database import FILE_NAME, Database, database_url
from personaplex_bridge.history.deleting import delete, purge
from personaplex_bridge.history.queries import (
    Page,
    Search,
    call_of,
    matching,
    page_of,
    select_calls,
)
from personaplex_bridge.history.recorder import Recorder
from personaplex_bridge.history.recordings import Recordings, Removal
from personaplex_bridge.history.stats import Stats, gather
from personaplex_bridge.history.tables import calls, details

Progress = Callable[[int], None]
"""Is told how many calls are done."""

PAGE, BATCH = 2000, 10
"""Calls that are looked for at a time, and those of them that are read at a time: reading takes the
event loop some 0.1 ms a call, and calls may be in progress on it.
"""

MAX_TOLD = 3
"""Recordings that an error names."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """How much was deleted."""

    calls: int
    recordings: int
    recordings_missing: int = 0
    """Recordings of these calls that were not found: they are gone already, or they are in
    another folder or on another machine.
    """
    sids: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """The calls' CallSids, or StreamSids where there are none: for whoever remembers them too."""


class RecordingsStay(HistoryError):
    """Recordings can't be deleted, and so their calls are kept: delete again. `deletion` tells
    what was deleted all the same.
    """

    def __init__(self, deletion: Deletion, failures: Sequence[HistoryError]) -> None:
        shown = "; ".join(str(one) for one in failures[:MAX_TOLD])
        more = f"; and {len(failures) - MAX_TOLD} more" if len(failures) > MAX_TOLD else ""
        super().__init__(
            f"{deletion.calls} calls deleted; kept for now, with their recordings: "
            f"{len(failures)}; mend this and delete again: {shown}{more}"
        )
        self.deletion = deletion


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
        self._recordings = None if recordings is None else Recordings(recordings)

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
            # A few at a time, and none of the database's locks or states held in between.
            async with self._database.reading() as connection:
                beyond = sa.select(calls.c.id).where(*self._matching(search), calls.c.id > last)
                found = await connection.scalars(beyond.order_by(calls.c.id).limit(PAGE))
                numbers = found.all()
            for begin in range(0, len(numbers), BATCH):
                for whole in await self._some(numbers[begin : begin + BATCH]):
                    yield whole
            if len(numbers) < PAGE:
                return
            last = numbers[-1]

    async def recording(self, whole: WholeCall) -> Path | None:
        """Where a call's recording is; None if there is none, or none any more. That of a call in
        progress is none yet.
        """
        name = whole.details.figures.get("recording")
        is_over = whole.call.outcome is not Outcome.IN_PROGRESS
        if self._recordings is None or not name or not is_over:
            return None
        return await asyncio.to_thread(self._recordings.find, str(name))

    async def stats(self, search: Search | None = None) -> Stats:
        """Figures of all calls, or of those that a search finds.

        Raises:
            HistoryError: the search can't be understood; says what of it.
        """
        async with self._database.reading() as connection:
            return await gather(connection, self._matching(search or Search()))

    async def delete_call(self, call_id: str) -> Deletion:
        """Delete a call, and its recording. Of one in progress here nothing more is kept.

        Raises:
            HistoryError: it is no call's id.
            RecordingsStay: its recording can't be deleted.
        """
        number = _number(call_id)
        return await self._delete(lambda entry: entry.id == call_id, calls.c.id == number)

    async def delete_caller(self, number: str, progress: Progress = lambda done: None) -> Deletion:
        """Delete all calls of a caller, by their whole number.

        Nothing of them is left in the database, its indexes and its journal; nor are their
        recordings.

        Raises:
            HistoryError: it is no number.
            RecordingsStay: not all recordings can be deleted.
        """
        await self._database.prepare()
        wanted = self._database.hash_of(number)
        if not wanted:
            raise HistoryError("a number is needed: +15550100, or what Twilio said instead of one")
        return await self._delete_hash(wanted, progress)

    async def delete_caller_of(self, call_id: str) -> Deletion | None:
        """The same for whoever made a call, whose number need not be known; None if there is no
        such call.

        Raises:
            HistoryError: Twilio did not say who made it.
            RecordingsStay: not all recordings can be deleted.
        """
        asked = sa.select(calls.c.caller_hash).where(calls.c.id == _number(call_id))
        async with self._database.reading() as connection:
            wanted = await connection.scalar(asked)
        if wanted is None:
            return None
        if not wanted:
            raise HistoryError("it is not known who made this call: delete the call itself")
        return await self._delete_hash(wanted, lambda _done: None)

    async def _delete_hash(self, wanted: str, progress: Progress) -> Deletion:
        def theirs(entry: Entry) -> bool:
            return (entry.caller_hash or self._database.hash_of(entry.person)) == wanted

        return await self._delete(theirs, calls.c.caller_hash == wanted, progress)

    async def _delete(
        self,
        matches: Callable[[Entry], bool],
        condition: sa.ColumnElement[bool],
        progress: Progress = lambda done: None,
    ) -> Deletion:
        """Recordings first: only a call whose recording is gone is deleted, or nobody would know
        of the file any more. Then what only looks deleted.
        """
        removal = Removal(self._recordings)
        forgotten, kept = await self._forget(matches, removal)
        if kept:  # their rows may be older than their recordings
            condition &= calls.c.id.not_in([_number(entry.id) for entry in kept])
        deleted = await delete(self._database, condition, progress, removal.remove)
        if deleted.ids:
            await purge(self._database)
        count = len(deleted.ids | {_number(entry.id) for entry in forgotten})
        sids = {entry.whole.call.call_sid or entry.whole.call.stream_sid for entry in forgotten}
        sids |= deleted.sids
        deletion = Deletion(count, removal.gone, removal.missing, frozenset(sids))
        if removal.failures:
            raise RecordingsStay(deletion, removal.failures)
        return deletion

    async def _forget(
        self, matches: Callable[[Entry], bool], removal: Removal
    ) -> tuple[list[Entry], list[Entry]]:
        """Calls of this process, and those that are kept, since their recordings can't be deleted.
        None of them is on its way to the database meanwhile.
        """
        if self._recorder is None:
            return [], []
        async with self._database.writing:
            found = self._recorder.find(matches)
        gone, kept = list[Entry](), list[Entry]()
        for entry in found:
            is_gone = await removal.remove(entry.whole.details.figures)
            (gone if is_gone else kept).append(entry)
        async with self._database.writing:
            self._recorder.forget({entry.id for entry in gone})
        return gone, kept

    async def _some(self, numbers: Sequence[int]) -> list[WholeCall]:
        async with self._database.reading() as connection:
            few = _whole().where(calls.c.id.in_(numbers)).order_by(calls.c.id)
            return [_whole_of(row) for row in await connection.execute(few)]

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
    if not settings.keeps_history and not (settings.state_dir / FILE_NAME).exists():
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
