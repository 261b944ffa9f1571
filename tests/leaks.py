"""What a test leaves behind: tasks, sockets, and errors that nobody saw."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

GRACE_S = 1.0
"""In the time of the running loop."""


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """Fails if tasks or TCP sockets outlive the block, or an error of a task went unseen."""
    loop, unseen = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: unseen.append(_told(context)))
    before = _alive()
    yield
    try:
        async with asyncio.timeout(GRACE_S):
            while _alive() - before:
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"left behind: {_alive() - before}")
    gc.collect()  # an unclosed transport warns now, and warnings are errors
    if unseen:
        pytest.fail(f"unseen: {unseen}")


def _alive() -> set[object]:
    """Tasks other than this one, and descriptors of this process's TCP sockets."""
    sockets = {connection.fd for connection in psutil.Process().net_connections("tcp")}
    return {*asyncio.all_tasks(), *sockets} - {asyncio.current_task()}


def _told(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"
