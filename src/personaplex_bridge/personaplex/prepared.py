"""A line opened ahead of its call: connected, handshake done, and kept alive until it is used."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

from personaplex_bridge import logs
from personaplex_bridge.errors import HandshakeTimeout, ModelError, ModelUnavailable
from personaplex_bridge.personaplex.client import PersonaPlexLine, open_line
from personaplex_bridge.personaplex.messages import Handshake, ServerError
from personaplex_bridge.personaplex.voices import Role

_log = logging.getLogger(logs.NAME)


class PreparedLine:
    """One connection, living in a task of its own from connecting to closing.

    It begins at once, or when `after`, the task of the connection before it, has ended: a server
    must never see two. Cancelling whoever awaits it leaves it alone; `drop` ends it.
    """

    def __init__(
        self,
        server: str,
        role: Role,
        tls: ssl.SSLContext | None,
        handshake_timeout_s: float,
        after: asyncio.Task[None] | None = None,
    ) -> None:
        self.role = role
        self.began_s = asyncio.get_running_loop().time()
        self.ready_s: float | None = None
        """When the handshake came, by the loop's time."""
        self._server = server
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._after = after
        self._ready: asyncio.Future[PersonaPlexLine] = asyncio.Future()
        self._dropped = self._begun = False
        self.task = asyncio.create_task(self._live(), name="model-line")
        # Whoever wants to know asks for `failure`; nobody may.
        for result in (self._ready, self.task):
            result.add_done_callback(lambda result: result.cancelled() or result.exception())

    @property
    def is_open(self) -> bool:
        """Whether it is on its way or stands, and nobody has let it go."""
        return not self._dropped and not self.task.done()

    @property
    def is_ready(self) -> bool:
        """Whether the handshake is done and the connection stands."""
        return self._ready.done() and self._ready.exception() is None and self.is_open

    @property
    def failure(self) -> BaseException | None:
        """Why there is no connection any more; None while there is, or if it was dropped."""
        if not self.task.done() or self.task.cancelled():
            return None
        return self.task.exception()

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called when the line becomes ready, and when it ends."""
        self._ready.add_done_callback(lambda _: call())
        self.task.add_done_callback(lambda _: call())

    async def line(self) -> PersonaPlexLine:
        """The line, once the model has taken in its prompts.

        Raises:
            ModelError: it can't be reached, didn't shake hands in time, or is gone again.
        """
        waits: set[asyncio.Future[Any]] = {self._ready, self.task}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if self.task.cancelled():
            raise ModelUnavailable("the line was let go")
        if not self._ready.done():
            self.task.result()
        return self._ready.result()

    def drop(self) -> None:
        """Let it go; `task` ends once the connection is closed."""
        if not self._dropped:
            self._dropped = True
            # A task that is cancelled before it has begun ends at once, and the next connection
            # would not wait for the one before this. One that has failed is closing already.
            failed = self._ready.done() and self._ready.exception() is not None
            if self._begun and not failed:
                self.task.cancel()

    async def _live(self) -> None:
        self._begun = True
        await self._take_turn()
        if self._dropped:
            raise asyncio.CancelledError
        async with open_line(self._server, self.role, self._tls) as line:
            try:
                await self._await_handshake(line)
            except ModelError as error:
                self._ready.set_exception(error)  # nobody need wait until it is closed
                raise
            self.ready_s = asyncio.get_running_loop().time()
            self._ready.set_result(line)
            await line.keepalive()

    async def _take_turn(self) -> None:
        """Wait for the connection before to be closed, even if this one is dropped meanwhile."""
        if self._after is None:
            return
        try:
            await asyncio.wait({self._after})
        except asyncio.CancelledError:
            await asyncio.wait({self._after})
            raise
        finally:
            self._after = None

    async def _await_handshake(self, line: PersonaPlexLine) -> None:
        """Wait until the model has taken in its prompts: seconds, not milliseconds."""
        try:
            async with asyncio.timeout(self._handshake_timeout_s):
                while not isinstance(message := await line.receive(), Handshake):
                    if isinstance(message, ServerError):
                        _log.warning("the model server reports: %.200r", message.message)
        except TimeoutError:
            late = f"no handshake within {self._handshake_timeout_s:g} s"
            raise HandshakeTimeout(late) from None
