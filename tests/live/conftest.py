"""Every live test must leave nothing behind: no task, no socket."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import psutil
import pytest

GRACE_S = 1.0


def _alive() -> set[object]:
    """Tasks other than this one, and descriptors of this process's TCP sockets."""
    sockets = {connection.fd for connection in psutil.Process().net_connections("tcp")}
    return {*asyncio.all_tasks(), *sockets} - {asyncio.current_task()}


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    before = _alive()
    yield
    try:
        async with asyncio.timeout(GRACE_S):
            while _alive() - before:
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"left behind: {_alive() - before}")
    gc.collect()  # an unclosed transport warns now, and warnings are errors
