"""A Redis server for each test, which must leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.leaks import nothing_left_behind
from tests.redis.server import RedisServer


@pytest.fixture
async def new_redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """One that has just started: it gives out nothing for one TTL."""
    server = RedisServer(tmp_path)
    await server.start()
    try:
        async with nothing_left_behind():
            yield server
    finally:
        server.kill()


@pytest.fixture
async def redis(new_redis: RedisServer) -> RedisServer:
    """One that has run for long."""
    await new_redis.season()
    return new_redis
