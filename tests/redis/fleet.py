"""Several bridges and several model servers, each a process, and a Redis that the bridges share."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.processes import HOST, READY_S, free_ports, start_bridge
from tests.redis.server import RedisServer

END_S = 20.0


class Fleet:
    """Use it `running`."""

    def __init__(self, folder: Path, bridges: int, servers: int, settings: dict[str, str]) -> None:
        self.redis = RedisServer(folder)
        self.ports = free_ports(bridges)
        self._settings = settings
        self._folder = folder
        self._servers = servers
        self._models: list[Process] = []
        self._bridges: list[Process | None] = [None] * bridges
        self._lives = [0] * bridges
        self._up = [False] * bridges
        self._urls: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        """All processes are there and ready; they are gone after the block."""
        try:
            await self.redis.start()
            await asyncio.gather(*(self._start_model() for _ in range(self._servers)))
            await asyncio.gather(*(self.start(number) for number in range(len(self.ports))))
            yield self
        finally:
            for process in [*self._models, *self._bridges]:
                if process is not None and process.returncode is None:
                    process.kill()
                    await process.wait()
            self.redis.kill()

    async def start(self, number: int) -> None:
        """Have a bridge run; returns when it takes calls."""
        settings = {
            "PERSONAPLEX_URL": ",".join(self._urls),
            "LEASES_URL": self.redis.url,
            "WEBHOOK_RATE": "1000",  # all callers have one address here
            "RINGBACK": "off",  # what callers hear is then the model
        }
        settings.update(self._settings)
        log = self._folder / f"bridge-{number + 1}.log"
        self._bridges[number] = await start_bridge(self.ports[number], log, **settings)
        self._lives[number] += 1
        self._up[number] = True

    async def kill(self, number: int) -> None:
        """As `kill -9` does."""
        self._up[number] = False
        process = self._bridges[number]
        assert process is not None
        process.kill()
        await process.wait()

    def life(self, number: int) -> int | None:
        """Which of its lives a bridge is in, from 1; None while it takes no calls."""
        return self._lives[number] if self._up[number] else None

    async def end(self) -> list[dict[str, Any]]:
        """End all bridges, then all servers, with SIGINT; what the servers saw."""
        for process in self._bridges:
            assert process is not None
            process.send_signal(signal.SIGINT)
        for process in self._bridges:
            assert process is not None
            await asyncio.wait_for(process.wait(), END_S)
        return [await self._end_model(process) for process in self._models]

    async def leases(self) -> dict[str, Any]:
        """The leases that Redis knows, and that have not run out, by slot."""
        now_ms = await self.redis.now_ms()
        found = await self.redis.read("leases")
        leases = {slot: json.loads(text) for slot, text in found.items() if "#" in slot}
        return {slot: lease for slot, lease in leases.items() if lease["until"] > now_ms}

    async def _start_model(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.redis.standin_process"), stdout=PIPE
        )
        self._models.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(READY_S):
            self._urls.append(f"ws://{HOST}:{int(await process.stdout.readline())}")

    async def _end_model(self, process: Process) -> dict[str, Any]:
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(process.communicate(), END_S)
        seen: dict[str, Any] = json.loads(output)
        return seen
