"""Both databases, empty, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from personaplex_bridge.history.database import Database
from personaplex_bridge.history.store import History
from personaplex_bridge.values import database_url
from tests.history.makers import KEY
from tests.history.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """One for all tests."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(server: PostgresServer) -> PostgresServer:
    """Running, whatever the test before did to it."""
    if not server.is_running:
        server.start()
    return server


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.new_database("calls")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(database_url(url), KEY)
    yield database
    await database.close()


@pytest.fixture
def history(database: Database) -> History:
    return History(database)
