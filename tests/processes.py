"""Bridges that are processes of their own, started as their users start them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

import aiohttp

HOST = "127.0.0.1"
READY_S = 60.0


async def start_bridge(port: int, log: Path | None, **environ: str) -> Process:
    """`personaplex-bridge serve`; returns when it takes calls. Its log is added to `log`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")}
    with contextlib.ExitStack() as stack:
        stderr = DEVNULL if log is None else stack.enter_context(log.open("ab"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "personaplex_bridge", "serve"),
            stdout=DEVNULL,
            stderr=stderr,
            env={**kept, "PORT": str(port), **environ},
        )
    try:
        await _until_ready(port)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process


def free_ports(count: int) -> list[int]:
    """Ports that a bridge can have again after it was killed."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


async def _until_ready(port: int) -> None:
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://{HOST}:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
