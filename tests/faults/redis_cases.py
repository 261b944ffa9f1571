"""Faults of the Redis that holds the leases: a real one, and a bridge that is a process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from personaplex_bridge.simulator.report import PhoneReport
from tests.faults.process import ServedBridge, served
from tests.faults.scene import HEALTHY, Case, Row, told_of
from tests.live.harness import standin
from tests.redis.server import RedisServer

TTL_S = 3.0
CALL_S = 10.0
Deed = Callable[[RedisServer, ServedBridge], Awaitable[None]]


def _case(name: str, deed: Deed) -> Case:
    """A call is in progress for 2 s when it happens to Redis; a second call comes after it."""

    async def play() -> Row:
        with tempfile.TemporaryDirectory() as folder:
            redis = RedisServer(Path(folder))
            await redis.start()
            await redis.season()
            try:
                first, second, left = await _play(redis, deed)
            finally:
                redis.kill()
        told, other = told_of(first), told_of(second)
        later = f"comes later: {other.heard}"
        return Row("Redis", name, told.heard, told.outcome, later, left)

    return Case("Redis", name, real=play)


async def _play(redis: RedisServer, deed: Deed) -> tuple[PhoneReport, PhoneReport, str]:
    async with standin(HEALTHY) as (one, model), standin(HEALTHY) as (two, other):
        async with served([one, two], LEASES_URL=redis.url, LEASE_TTL=str(TTL_S)) as bridge:
            calling = asyncio.create_task(bridge.call(CALL_S))
            await asyncio.sleep(2.0)
            await deed(redis, bridge)
            second = await bridge.call(2.0)
            first = await calling
            await asyncio.sleep(1.0)
            lines = await bridge.lines()
        crowded = model.crowded + other.crowded
    left = "nothing" if set(lines) <= {"idle", "warm"} and not crowded else f"{lines}"
    return first, second, left


async def _away_for_a_moment(redis: RedisServer, _bridge: ServedBridge) -> None:
    redis.pause()
    await asyncio.sleep(1.0)
    redis.resume()
    await asyncio.sleep(1.0)


async def _away_for_long(redis: RedisServer, _bridge: ServedBridge) -> None:
    redis.pause()
    await asyncio.sleep(TTL_S + 1.0)
    redis.resume()
    await asyncio.sleep(1.0)


async def _without_its_data(redis: RedisServer, _bridge: ServedBridge) -> None:
    redis.kill()
    await redis.start()
    await asyncio.sleep(TTL_S + 1.0)


CASES = [
    _case("is away for 1 s (LEASE_TTL 3 s)", _away_for_a_moment),
    _case("is away for 4 s", _away_for_long),
    _case("comes back without its data", _without_its_data),
]
