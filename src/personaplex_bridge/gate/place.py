"""The model's one place: who has it, and who may have it next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from personaplex_bridge.errors import GateRefusal


class Place:
    """Held from before connecting to the model until that connection is closed for certain.

    Whoever comes while it is held is refused; but who comes while the session that has it is
    ending waits, for a second or two at most: a client that reconnects is quicker than the model.
    """

    def __init__(self) -> None:
        self._is_held = self._is_ending = False
        self._is_gone: Callable[[], bool] = lambda: False
        self._freed = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Whether the model is taken, or about to be free."""
        return self._is_held

    def end(self) -> None:
        """The session that has it is over, but for closing connections."""
        self._is_ending = True

    @asynccontextmanager
    async def taken(self, is_gone: Callable[[], bool]) -> AsyncIterator[None]:
        """Have it inside the block. `is_gone` says whether the client who asks has left.

        Raises:
            GateRefusal: 409, another has it.
        """
        while self._is_held:
            if not self._is_ending and not self._is_gone():
                raise GateRefusal(409, "busy", "the model serves another client")
            await self._freed.wait()
        self._is_held, self._is_ending, self._is_gone = True, False, is_gone
        self._freed.clear()
        try:
            yield
        finally:
            self._is_held = False
            self._freed.set()
