"""From an empty database, and from every version before."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from personaplex_bridge.errors import HistoryUnavailable
from personaplex_bridge.history import database as databases
from personaplex_bridge.history.database import Database, migrate
from personaplex_bridge.history.queries import Search
from personaplex_bridge.history.store import History
from personaplex_bridge.history.tables import metadata
from personaplex_bridge.values import database_url
from tests.history.makers import entry, write


def _url(url: str) -> sa.URL:
    return sa.make_url(database_url(url))


async def test_from_revision_1(
    database: Database, history: History, url: str, tmp_path: Path
) -> None:
    """Calls that were there before can be searched after."""
    await asyncio.to_thread(migrate, _url(url), "0001")
    database._is_prepared = True  # so that it is written as the first version did
    await database._get_key()
    call = entry("Welcome to the Harbour Inn")
    await write(database, [call], tmp_path)
    database._is_prepared = False
    page = await history.search(Search(text="harbour"))
    assert [found.id for found in page.calls] == [call.id]
    more = entry("another harbour", minute=1)
    await write(database, [more], tmp_path)
    assert await history.count(Search(text="harbour")) == 2
    assert (await history.delete_call(call.id)).calls == 1
    assert await history.count(Search(text="harbour")) == 1


async def test_the_program_knows_the_last_version(database: Database) -> None:
    await database.prepare()
    assert await database._version() == databases.VERSION


async def test_many_at_once(url: str) -> None:
    """Bridges that start together."""
    several = [Database(database_url(url)) for _ in range(4)]
    await asyncio.gather(*(database.prepare() for database in several))
    assert len({database.hash_of("+15550100") for database in several}) == 1
    for database in several:
        await database.close()


async def test_what_comes_out_is_what_the_program_thinks(database: Database) -> None:
    await database.prepare()

    def compare(connection: sa.Connection) -> None:
        for table in metadata.tables.values():
            columns = sa.inspect(connection).get_columns(table.name)
            there = {column["name"]: column for column in columns}
            assert set(there) - {"words"} == {column.name for column in table.columns}
            for column in table.columns:
                assert there[column.name]["nullable"] is column.nullable

    async with database.reading() as connection:
        await connection.run_sync(compare)


async def test_a_database_of_a_later_version(database: Database) -> None:
    await database.prepare()
    async with database.changing() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database._is_prepared = False
    with pytest.raises(HistoryUnavailable, match="later version"):
        await database.prepare()


async def test_a_migration_that_is_cut_off_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it happens, or nothing."""
    file = tmp_path / "calls.db"

    def dies(connection: sa.Connection, revision: str) -> None:
        connection.execute(sa.text("CREATE TABLE calls (id INTEGER)"))
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(databases, "_upgrade", dies)
        broken = Database(f"sqlite+aiosqlite:///{file}")
        with pytest.raises(HistoryUnavailable, match="OSError"):
            await broken.prepare()
        await broken.close()
    database = Database(f"sqlite+aiosqlite:///{file}")
    await database.prepare()
    await database.close()
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert file.stat().st_mode & 0o777 == 0o600
