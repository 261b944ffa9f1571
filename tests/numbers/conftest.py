"""Every test of this folder must leave nothing behind."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest

from tests.leaks import nothing_left_behind


@pytest.fixture(autouse=True)
async def clean(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    if inspect.iscoroutinefunction(request.function):
        async with nothing_left_behind():
            yield
    else:
        yield
