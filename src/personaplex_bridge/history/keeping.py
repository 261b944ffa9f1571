"""A bridge's history: recorded, written, and forgotten in time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from personaplex_bridge import logs
from personaplex_bridge.callers import Callers
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import BridgeError, ConfigError, HistoryUnavailable
from personaplex_bridge.history.backlog import LIMIT, Backlog
from personaplex_bridge.history.calls import Outcome, first_id
from personaplex_bridge.history.database import Database, database_url
from personaplex_bridge.history.deleting import delete, purge
from personaplex_bridge.history.recorder import Recorder
from personaplex_bridge.history.spool import Spool
from personaplex_bridge.history.store import History
from personaplex_bridge.history.tables import calls
from personaplex_bridge.history.writing import Writer

UPDATE_EVERY_S = 5.0
"""How often calls in progress are looked at: so much of one is lost with a bridge that dies."""

SWEEP_EVERY_S = 24 * 3600.0
RETRY_SWEEP_S = 600.0

ABANDONED_H = 24
"""A call in progress for so long is none (Twilio ends each after four hours): its bridge died and
was never started again under its name.
"""

START_S = 5.0
"""How long the bridge waits at start to see whether its database is there."""

FLUSH_S = 5.0
"""How long it waits at its end."""

_log = logging.getLogger(logs.NAME)


@dataclass(frozen=True, slots=True)
class Keeper:
    """What a bridge has of its history: give it the recorder as an observer."""

    history: History
    recorder: Recorder
    backlog: Backlog
    _database: Database = field(repr=False)

    @property
    def is_settled(self) -> bool:
        """Whether all that is known now is in the database."""
        return not len(self.backlog) and not self._database.writing.locked()


@asynccontextmanager
async def keep_history(
    settings: Settings,
    callers: Callers,
    *,
    limit: int = LIMIT,
    update_every_s: float = UPDATE_EVERY_S,
) -> AsyncIterator[Keeper]:
    """Keep calls inside the block; `callers` are those whose webhooks the bridge has noted.

    A database that can't be reached, at the beginning or later, doesn't disturb the bridge: calls
    wait for it, `limit` at most. At the end they are written within 5 s, or else to a file in
    STATE_DIR.

    Raises:
        ConfigError: DATABASE_URL, HISTORY_KEY or STATE_DIR can't be used.
    """
    database = Database(database_url(settings), settings.history_key)
    bridge, backlog = bridge_name(settings), Backlog(limit)
    began = first_id(datetime.now(UTC))
    writer = Writer(database, backlog, Spool(spool_path(settings)), bridge, began)
    recorder = Recorder(
        backlog,
        callers,
        bridge,
        transcripts=settings.history_transcripts,
        on_entry=writer.has_more,
    )
    try:
        await _greet(database)
        tasks = [
            asyncio.create_task(writer.run(), name="history-writer"),
            asyncio.create_task(_look(recorder, update_every_s), name="history-look"),
            asyncio.create_task(
                _sweep_daily(database, settings.retention_days), name="history-sweep"
            ),
        ]
        try:
            history = History(database, recorder, settings.recordings_folder)
            yield Keeper(history, recorder, backlog, database)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await writer.finish(FLUSH_S)
            for task in tasks:
                _tell_bug(task)
    finally:
        await database.close()


def bridge_name(settings: Settings) -> str:
    """By which a bridge knows its own calls again after a crash: its public address, or else its
    machine and port.
    """
    return settings.public_url or f"{socket.gethostname()}:{settings.port}"


def spool_path(settings: Settings) -> Path:
    """Where what couldn't be written waits; each bridge has its own."""
    name = hashlib.sha256(bridge_name(settings).encode()).hexdigest()[:8]
    return settings.state_dir / f"history-{name}.jsonl"


async def sweep(database: Database, retention_days: int | None, now: datetime) -> int:
    """Delete calls that are too old; how many those were. Close those that nobody has any more.

    Raises:
        HistoryUnavailable: the database fails.
    """
    abandoned = sa.update(calls).where(
        calls.c.outcome == str(Outcome.IN_PROGRESS),
        calls.c.id < first_id(now - timedelta(hours=ABANDONED_H)),
    )
    values = {"outcome": str(Outcome.LOST), "ended_at": calls.c.updated_at}
    more = {"ended_by": "bridge", "ended_reason": "lost with its bridge"}
    async with database.writing, database.changing() as connection:
        await connection.execute(abandoned.values({**values, **more}))
    if retention_days is None:
        return 0
    too_old = calls.c.id < first_id(now - timedelta(days=retention_days))
    deleted = len((await delete(database, too_old)).ids)
    await purge(database)  # also when there were none: the last time it may have failed
    return deleted


async def _greet(database: Database) -> None:
    """See whether the database is there; a bridge starts all the same.

    Raises:
        ConfigError: it is, but not as the settings say.
    """
    try:
        async with asyncio.timeout(START_S):
            await database.prepare()
    except ConfigError:
        raise
    except (BridgeError, TimeoutError) as error:
        _log.error("history: %s; calls wait in memory", str(error) or "no database in time")
    else:
        _log.info("history: calls are kept in a database (%s)", database.name)


async def _look(recorder: Recorder, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        for _ in recorder.look():
            await asyncio.sleep(0)  # others come first


async def _sweep_daily(database: Database, retention_days: int | None) -> None:
    while True:
        pause_s = SWEEP_EVERY_S
        try:
            deleted = await sweep(database, retention_days, datetime.now(UTC))
        except HistoryUnavailable as error:
            _log.debug("history: not all of old calls could be deleted: %s", error)
            pause_s = RETRY_SWEEP_S
        else:
            if deleted:
                _log.info("history: %d calls older than RETENTION_DAYS deleted", deleted)
        await asyncio.sleep(pause_s)


def _tell_bug(task: asyncio.Task[None]) -> None:
    """None of them ends by itself."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("history: %s stopped", task.get_name(), exc_info=error)
