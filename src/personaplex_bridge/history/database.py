"""The database: its engine, its tables' version, and the key that numbers are hashed with."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from personaplex_bridge.callers import normal
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ConfigError, HistoryUnavailable, WrongValue
from personaplex_bridge.history.tables import kept

FILE_NAME = "history.db"

VERSION = "0002"
"""Of the tables, as this program knows them: the last of the migrations."""

CONNECT_S = 5.0
STATEMENT_S = 30.0
"""How long PostgreSQL may take for a statement: a hundred times what any of ours takes."""
LOCKED_S = 5.0
"""How long another process may keep a SQLite file locked."""

_MIGRATION_LOCK = 0x70706272
"""So that of several bridges that start at once one migrates: a number of our own."""

_FAILURES = (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError)
"""What a database that is away fails with, whichever it is."""


class Database:
    """A SQLite file or a PostgreSQL database. `prepare` it before use, `close` it after.

    `url` is as `values.database_url` makes it.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self._given_key = key
        self._key: bytes | None = key.encode() if key else None
        self._is_prepared = False
        self._preparing = asyncio.Lock()
        self.writing = asyncio.Lock()
        """Held by whoever writes or deletes: a deletion must not be undone by a batch under way."""
        try:
            self._url = _understood(url)
            self.engine = _engine(self._url)
        except (SQLAlchemyError, ValueError, TypeError) as error:
            why = f"usable by SQLAlchemy, which says: {type(error).__name__}"
            raise ConfigError(WrongValue("DATABASE_URL", "(hidden)", why)) from None

    @property
    def is_sqlite(self) -> bool:
        """A file; else PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """What it is, for a log: without its address, which may hold a password."""
        return "SQLite" if self.is_sqlite else "PostgreSQL"

    @property
    def file(self) -> str:
        """Where a SQLite database is."""
        return self._url.database or ""

    @property
    def has_key(self) -> bool:
        """Whether numbers can be hashed already."""
        return self._key is not None

    async def prepare(self) -> None:
        """Bring the tables to this version, and get the key. Does nothing the second time.

        Raises:
            HistoryUnavailable: it can't be reached, or is of a later version of this program.
            ConfigError: its numbers were hashed with another key; or the URL has unknown options.
        """
        async with self._preparing:
            if self._is_prepared:
                return
            with told():
                if await self._version() != VERSION:
                    await self._migrate()
                await self._get_key()
            self._is_prepared = True

    async def _version(self) -> str | None:
        """Of its tables; None if they can't be looked at, whyever: migrating will tell."""
        try:
            async with self.engine.connect() as connection:
                found = await connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        except (*_FAILURES, TypeError, ValueError):
            return None
        return None if found is None else str(found)

    async def _migrate(self) -> None:
        """In a thread: it may take a second, and calls may be in progress."""
        try:
            await asyncio.to_thread(migrate, self._url)
        except (TypeError, ValueError) as error:  # by the driver, of what is after the ?
            allowed = "with options that the driver knows only, such as ?sslmode=require"
            raise ConfigError(WrongValue("DATABASE_URL", "(hidden)", allowed)) from error

    async def close(self) -> None:
        """Let all connections go."""
        await self.engine.dispose()

    def hash_of(self, party: str) -> str:
        """A keyed hash of a number, the same for all its spellings; empty for none.

        Raises:
            HistoryUnavailable: there is no key yet.
        """
        if self._key is None:
            raise HistoryUnavailable("the history's database has not been reached yet")
        plain = normal(party)
        return hmac.new(self._key, plain.encode(), hashlib.sha256).hexdigest() if plain else ""

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one state of the database.

        Raises:
            HistoryUnavailable: also what goes wrong inside.
        """
        await self.prepare()
        with told():
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes it; nothing happens if the block fails. Hold `writing`.

        Raises:
            HistoryUnavailable: also what goes wrong inside.
        """
        await self.prepare()
        with told():
            async with self.engine.connect() as connection:
                await connection.execution_options(writes=True)
                async with connection.begin():
                    yield connection

    def upsert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that knows ON CONFLICT; both databases spell it alike."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    async def _get_key(self) -> None:
        """The key of the settings, or else the database's own. It must be the one it began with:
        with another, nobody's calls would be found any more, not even to delete them.
        """
        given = self._given_key
        check = None if given is None else _check_of(given)
        first = ("key", secrets.token_hex(32)) if check is None else ("key-check", check)
        async with self.engine.connect() as connection:
            await connection.execution_options(writes=True)
            async with connection.begin():
                found = await _kept(connection)
                if not found:
                    row = dict(zip(("name", "value"), first, strict=True))
                    await connection.execute(self.upsert(kept).values(row).on_conflict_do_nothing())
                    found = await _kept(connection)
        if found.get("key-check") != check:
            allowed = "the key that this database was begun with, or empty if it was without one"
            raise ConfigError(WrongValue("HISTORY_KEY", "(hidden)", allowed))
        self._key = (given or found["key"]).encode()


async def _kept(connection: AsyncConnection) -> dict[str, str]:
    rows = await connection.execute(sa.select(kept.c.name, kept.c.value))
    return {str(name): str(value) for name, value in rows}


def _check_of(key: str) -> str:
    return hmac.new(key.encode(), b"personaplex-bridge history", hashlib.sha256).hexdigest()


@contextmanager
def told() -> Iterator[None]:
    """Errors of drivers, as ours: without their words, which may quote values and addresses."""
    try:
        yield
    except _FAILURES as error:
        cause = getattr(error, "orig", None) or error
        raise HistoryUnavailable(
            f"the history's database fails: {type(cause).__name__}{_state_of(cause)}"
        ) from error


def _state_of(error: BaseException) -> str:
    """SQLSTATE, or SQLite's name of an error, if there is one."""
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return f" ({code})" if code else ""


def database_url(settings: Settings) -> str:
    """Where the history is. The folder is made."""
    if settings.database_url is not None:
        return settings.database_url
    make_folder(settings.state_dir)
    return f"sqlite+aiosqlite:///{settings.state_dir.absolute() / FILE_NAME}"


def make_folder(folder: Path) -> None:
    """For this user alone.

    Raises:
        ConfigError: it can't be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        allowed = f"a folder that can be written to ({error.strerror})"
        raise ConfigError(WrongValue("STATE_DIR", str(folder), allowed)) from error


def migrate(url: sa.URL, revision: str = "head") -> None:
    """Bring the tables to a version. Blocks, for a second or so."""
    asyncio.run(_migrate(url, revision))


async def _migrate(url: sa.URL, revision: str) -> None:
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(writes=True)
            async with connection.begin():
                if connection.dialect.name == "postgresql":
                    await connection.execute(
                        sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK}
                    )
                await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection, revision: str) -> None:
    # Here, because it takes a while, and is needed once only.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "personaplex_bridge:history/migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise HistoryUnavailable(
            "the history's database is of a later version of personaplex-bridge"
        ) from error


def _understood(url: str) -> sa.URL:
    """With what other programs call `sslmode` as asyncpg calls it."""
    understood = sa.make_url(url)
    mode = understood.query.get("sslmode")
    if mode is None:
        return understood
    return understood.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})


def _engine(url: sa.URL) -> AsyncEngine:
    options: dict[str, Any] = {"json_serializer": _json, "json_deserializer": orjson.loads}
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": LOCKED_S}, **options)
        sa.event.listen(engine.sync_engine, "do_connect", _make_private)
        sa.event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    limits = {"timeout": CONNECT_S, "command_timeout": STATEMENT_S}
    return create_async_engine(
        url, pool_size=3, pool_pre_ping=True, pool_timeout=CONNECT_S, connect_args=limits, **options
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _make_private(
    _dialect: object, _record: object, arguments: list[Any], _options: object
) -> None:
    """A new file is its owner's alone; SQLite gives its journal the same permissions.

    One that is there must not be opened, or rather closed: that would drop every lock that this
    process has on it, and another, seeing none, would delete the journal of all of us
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin no transaction before a SELECT or CREATE; we do (below).
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",  # who writes doesn't wait for who reads, nor they for it
        "synchronous = NORMAL",  # after a power cut the last second may be missing, nothing broken
        "foreign_keys = ON",
        "secure_delete = ON",  # what is deleted is overwritten
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Who will write says so at once: one who has begun to read would be refused instead of made
    to wait (https://www.sqlite.org/lang_transaction.html).
    """
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
