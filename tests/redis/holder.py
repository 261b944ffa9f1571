"""A process with a call in progress: `python -m tests.redis.holder REDIS SERVER TTL WATCH`.

It says a tone to the model for ever, as a caller does, and tells what ends that. It looks at its
deadlines every WATCH seconds, and before it sends anything.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from personaplex_bridge.errors import ModelError
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool import ModelPool, redis_leases
from personaplex_bridge.pool.redis_leases import RedisLeases
from personaplex_bridge.values import ServerAddress
from tests.live.harness import Voice

HOLDER = Role("NATF2", "You are the one who was here first.")


async def main(redis: str, server: str, ttl_s: float) -> None:
    pool = ModelPool([ServerAddress(server)], RedisLeases(redis, ttl_s))
    voice = Voice()
    async with pool.tended():
        try:
            async with pool.line("CA1", HOLDER) as line:
                print("talks", flush=True)
                await line.send_audio(b"".join(voice.headers))
                while True:
                    await line.send_audio(voice.page())
                    await asyncio.sleep(0.08)
        except ModelError as error:
            print(type(error).__name__, flush=True)


if __name__ == "__main__":
    redis_leases.WATCH_S = float(sys.argv[4])
    uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
