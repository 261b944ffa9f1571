"""A line opened ahead of its call: connected, handshake done, and kept alive until it is used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any

from personaplex_bridge import logs
from personaplex_bridge.errors import HandshakeTimeout, ModelError, ModelUnavailable
from personaplex_bridge.personaplex.client import Check, PersonaPlexLine, always_ours, open_line
from personaplex_bridge.personaplex.messages import Handshake, ServerError
from personaplex_bridge.personaplex.voices import Role

USUAL_PROMPT_STEPS = 250
"""HANDSHAKE_TIMEOUT is meant for prompts up to so many steps: 14 s at 56 ms (docs/protocol.md)."""

_log = logging.getLogger(logs.NAME)


def handshake_deadline_s(usual_s: float, role: Role) -> float:
    """How long a model may take in `role`: `usual_s`, in proportion more if it is very long."""
    return usual_s * max(1.0, role.prompt_steps / USUAL_PROMPT_STEPS)


class PreparedLine:
    """One connection, living in a task of its own from connecting to closing.

    It begins at once, or when `after`, the task of the connection before it, has ended: a server
    must never see two. Cancelling whoever awaits it leaves it alone; `drop` ends it, and so does
    `check`, by raising.

    `handshake_timeout_s` is for a prompt of usual length.
    """

    def __init__(
        self,
        server: str,
        role: Role,
        tls: ssl.SSLContext | None,
        handshake_timeout_s: float,
        after: asyncio.Task[None] | None = None,
        check: Check = always_ours,
        token: str | None = None,
    ) -> None:
        self.role = role
        self.began_s = asyncio.get_running_loop().time()
        self.ready_s: float | None = None
        """When the handshake came, by the loop's time."""
        self._server = server
        self._tls = tls
        self._token = token
        self._handshake_timeout_s = handshake_deadline_s(handshake_timeout_s, role)
        self._after = after
        self._check = check
        self._line: PersonaPlexLine | None = None
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
        if self._ready.done() and self._ready.exception() is not None:
            self._ready.result()
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

    def fail(self, error: ModelError) -> None:
        """Let it go without another word to the server; whoever uses it gets `error`."""
        if not self.is_open:
            return
        self._dropped = True
        self._end_waiting(error)
        if self._line is not None:
            self._line.abort(error)
        elif self._begun:
            self.task.cancel()

    async def _live(self) -> None:
        try:
            self._begun = True
            await self._take_turn()
            if self._dropped:
                raise asyncio.CancelledError
            check, token = self._check, self._token
            async with open_line(self._server, self.role, self._tls, check, token) as line:
                self._line = line
                try:
                    await _until_ready(line, self._handshake_timeout_s)
                except ModelError as error:
                    self._end_waiting(error)  # nobody need wait until it is closed
                    raise
                self.ready_s = asyncio.get_running_loop().time()
                self._ready.set_result(line)
                await line.keepalive()
        finally:
            del self  # the error keeps this frame, the task the error, and we keep the task

    def _end_waiting(self, error: ModelError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

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


async def _until_ready(line: PersonaPlexLine, timeout_s: float) -> None:
    """Wait until the model has taken in its prompts: seconds, not milliseconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not isinstance(message := await line.receive(), Handshake):
                if isinstance(message, ServerError):
                    _log.warning("the model server reports: %.200r", message.message)
            return
    # Out here it has no context: a TimeoutError keeps its task, and that the error it ends by.
    raise HandshakeTimeout(f"no handshake within {timeout_s:g} s")
