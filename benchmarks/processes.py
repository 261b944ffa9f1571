"""Processes that are measured, or help to measure: started, spoken with, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

READY_TIMEOUT_S = 15.0
LONGEST_LINE_BYTES = 1 << 30

BRIDGE = [sys.executable, "-m", "personaplex_bridge", "serve"]
"""The shipped command."""


@asynccontextmanager
async def started(
    command: list[str], log: IO[bytes] | None = None, cwd: Path | None = None, **environ: str
) -> AsyncIterator[Process]:
    """A process, with standard input and output to be used; killed at the block's end if it is
    still there. `log` takes its standard error.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=log,
        limit=LONGEST_LINE_BYTES,
        cwd=cwd,
        env={**os.environ, **environ},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_of(process: Process) -> str:
    """The next line it prints; it has a while to."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), READY_TIMEOUT_S)).decode()


async def ended(process: Process) -> bytes:
    """Ask it to end; what it still printed."""
    process.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(process.communicate(), READY_TIMEOUT_S)
    return output


async def until_listening(port: int) -> None:
    """Return once somebody takes connections there."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
