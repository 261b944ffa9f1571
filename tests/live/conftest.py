"""Every live test must leave nothing behind. Those in virtual time see to it in their own loop."""

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
