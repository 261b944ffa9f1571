"""A bridge that is a process of its own, in real time: what a signal or a full disk does to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.simulator.caller import PhoneCall
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.simulator.report import PhoneReport
from tests.live.harness import HOST

READY_S = 20.0


class ServedBridge:
    """`personaplex-bridge serve`."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self._port = port

    async def call(self, seconds: float) -> PhoneReport:
        """A call, in real time. What fails at Twilio ends it as it would there."""
        webhook = f"http://{HOST}:{self._port}/voice/inbound"
        phone = PhoneCall(CallPlan(webhook, b"", hang_up_after_s=seconds), SYSTEM_CLOCK)
        try:
            await phone.run()
        except CallFailed:
            phone.report.tell("Twilio says that an application error has occurred")
        return phone.report

    async def lines(self) -> dict[str, int]:
        """How the lines stand, by /healthz."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://{HOST}:{self._port}/healthz") as answer,
        ):
            lines: dict[str, int] = (await answer.json())["lines"]
            return lines


@asynccontextmanager
async def served(
    servers: list[str], *, log: Path | None = None, **environ: str
) -> AsyncIterator[ServedBridge]:
    """A bridge, ready; killed at the end if it is still there. Its log goes to `log`."""
    port = _free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")}
    settings = {"PERSONAPLEX_URL": ",".join(servers), "PORT": str(port), "WARM_LINES": "no"}
    with contextlib.ExitStack() as stack:
        stderr = DEVNULL if log is None else stack.enter_context(log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "personaplex_bridge", "serve"),
            stdout=DEVNULL,
            stderr=stderr,
            env={**kept, **settings, **environ},
        )
    try:
        await _until_ready(port)
        yield ServedBridge(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_ready(port: int) -> None:
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://{HOST}:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
