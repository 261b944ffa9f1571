"""A Redis server of a test's own: from the distribution's packages, on a socket in a folder."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import RedisError

from personaplex_bridge.pool.redis_leases import PREFIX

START_LIMIT_S = 10.0


class RedisServer:
    """Start it, kill it, start it again. It forgets everything, unless told to `save`."""

    def __init__(self, folder: Path, password: str = "") -> None:
        self._folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self._folder / "redis.sock"

    @property
    def url(self) -> str:
        return self.url_with(self._password)

    def url_with(self, password: str) -> str:
        user = f":{quote(password, safe='')}@" if password else ""
        return f"unix://{user}{self.socket}"

    async def start(self) -> None:
        """Return once it answers."""
        self.socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "requirepass": self._password,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        # Not asyncio's: it lives on while a test's loop does, and is killed after it.
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            ["redis-server", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(START_LIMIT_S):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            async with Redis.from_url(self.url) as redis:
                return bool(await redis.ping())
        except (OSError, RedisError):
            return False

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def save(self) -> None:
        """Write the snapshot that it will start from."""
        async with Redis.from_url(self.url) as redis:
            await redis.save()

    async def season(self) -> None:
        """Have it give out leases at once, as one that has run for long."""
        async with Redis.from_url(self.url, decode_responses=True) as redis:
            run = (await redis.info("server"))["run_id"]
            await redis.hset(PREFIX + "leases", mapping={"run": run, "since": 1})

    async def drop(self, key: str) -> None:
        """As a Redis does that has no more memory."""
        async with Redis.from_url(self.url) as redis:
            await redis.delete(PREFIX + key)

    async def now_ms(self) -> int:
        """Its clock."""
        async with Redis.from_url(self.url) as redis:
            seconds, micros = await redis.time()
            return int(seconds) * 1000 + int(micros) // 1000

    async def read(self, key: str) -> dict[str, str]:
        """A hash."""
        async with Redis.from_url(self.url, decode_responses=True) as redis:
            found = await redis.hgetall(PREFIX + key)
            return {str(field): str(value) for field, value in found.items()}
