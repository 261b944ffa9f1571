"""Tests in virtual time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from personaplex_bridge.simulator import virtual_time
from tests.leaks import nothing_left_behind

P = ParamSpec("P")
T = TypeVar("T")


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async test as a plain one, run to its end without waiting. It may leave nothing behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_cleanly(test(*args, **kwargs))

    return run


def run_cleanly(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time. It may leave nothing behind."""
    return virtual_time.run(_cleanly(coroutine))


async def _cleanly(coroutine: Coroutine[Any, Any, T]) -> T:
    async with nothing_left_behind():
        return await coroutine
