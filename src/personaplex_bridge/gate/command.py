"""The model server as a process that the gate starts, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

from personaplex_bridge import logs

TERM_TIMEOUT_S = 10.0
"""From SIGTERM to SIGKILL."""

NOT_ITS_BUSINESS = frozenset({"GATE_TOKEN", "RUNPOD_API_KEY"})
"""Variables that the command doesn't get."""

_log = logging.getLogger(f"{logs.NAME}.gate")


async def run_until_it_ends(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run `command`, with our own standard output and error; says how it ended.

    Cancelled, it stops the command, with all that it has started.
    """
    kept = {name: value for name, value in environ.items() if name not in NOT_ITS_BUSINESS}
    try:
        # A group of its own: Ctrl-C in a terminal is ours to pass on, and so are its children.
        process = await asyncio.create_subprocess_exec(*command, env=kept, start_new_session=True)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return f"the command {command[0]!r} can't be started: {why}"
    _log.info("started %s (process %d)", command[0], process.pid)
    try:
        return _told(command[0], await process.wait())
    finally:
        stopping = asyncio.create_task(_stop(process), name="gate-stop-command")
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await asyncio.wait({stopping})
            raise


async def _stop(process: Process) -> None:
    """SIGTERM, then SIGKILL. What it leaves of its group goes too."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(TERM_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            _log.warning("the command doesn't stop within %g s: killed", TERM_TIMEOUT_S)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
        os.killpg(process.pid, number)


def _told(name: str, code: int) -> str:
    if code >= 0:
        return f"the command {name!r} ended with exit code {code}; the log above says why"
    number = -code
    known = number in signal.valid_signals()
    by = signal.Signals(number).name if known else f"signal {number}"
    memory = " (out of memory?)" if by == "SIGKILL" else ""
    return f"the command {name!r} was ended by {by}{memory}"
