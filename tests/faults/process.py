"""A bridge that is a process of its own, in real time: what a signal or a full disk does to it."""

from __future__ import annotations

from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.simulator.caller import PhoneCall
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.simulator.report import PhoneReport
from tests.processes import HOST, free_ports, start_bridge


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
    (port,) = free_ports(1)
    settings = {"PERSONAPLEX_URL": ",".join(servers), "WARM_LINES": "no", **environ}
    process = await start_bridge(port, log, **settings)
    try:
        yield ServedBridge(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
