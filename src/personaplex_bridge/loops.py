"""A group of loops that ends with the first of them, and leaves nothing in circles."""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType


class LoopGroup(asyncio.TaskGroup):
    """A TaskGroup whose error doesn't keep the group's own frame.

    That of Python 3.11 and 3.12 does (python/cpython#128552): frame and error refer to each other,
    so all that the group's tasks have used, a call's codecs for one, stays until the garbage
    collector comes by.
    """

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the tasks; raise what ended them."""
        try:
            await super().__aexit__(kind, error, trace)
        except BaseException as raised:
            # Frames that have ended only: of the group's, and of what ran in its block.
            traceback.clear_frames(raised.__traceback__)
            raise
        finally:
            del error, trace
