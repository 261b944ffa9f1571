"""Seeing whether the model server is up, and how far it has come while it isn't.

It is asked with a plain `GET /api/chat`, which touches neither its one session nor the prompts it
shares between connections; a WebSocket would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import aiohttp

from personaplex_bridge import logs
from personaplex_bridge.gate import cache
from personaplex_bridge.gate.condition import Condition, Loading, Stage, State, Up
from personaplex_bridge.values import CHAT_PATH

LOADING_POLL_S, UP_POLL_S = 1.0, 5.0
POLL_TIMEOUT_S = 5.0
PATIENCE = 3
"""Polls in a row without an answer until a server that was up counts as gone: a step of the model
may hold it up. One that refuses connections is gone at once."""
TELL_S = 30.0
"""How often a download's progress is logged."""

ALIVE = frozenset({400, 426})
"""What a server that wants a WebSocket says to a plain GET."""

_log = logging.getLogger(f"{logs.NAME}.gate")


class Watch:
    """Keeps a `condition` true. `is_busy` says whether a session shows that the model is there."""

    def __init__(
        self,
        condition: Condition,
        model_url: str,
        hf_home: Path | None,
        is_busy: Callable[[], bool],
    ) -> None:
        self._condition = condition
        self._url = model_url + CHAT_PATH
        self._hf_home = hf_home
        self._is_busy = is_busy
        self._unanswered = 0
        self._look = asyncio.Event()
        self._told_s: float | None = None

    def look_now(self) -> None:
        """Somebody has found the model server gone."""
        self._look.set()

    async def run(self) -> None:
        """Watch for ever."""
        timeout = aiohttp.ClientTimeout(total=POLL_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                if not self._is_busy():
                    self._condition.set(await self._state(http))
                    self._tell_progress()
                await self._pause()

    async def _pause(self) -> None:
        is_up = isinstance(self._condition.state, Up)
        try:
            async with asyncio.timeout(UP_POLL_S if is_up else LOADING_POLL_S):
                await self._look.wait()
        except TimeoutError:
            pass
        self._look.clear()

    async def _state(self, http: aiohttp.ClientSession) -> State:
        try:
            async with http.get(self._url, allow_redirects=False) as answer:
                is_alive, is_certain = answer.status in ALIVE, True
        except aiohttp.ClientConnectorError:
            is_alive, is_certain = False, True
        except (aiohttp.ClientError, TimeoutError):
            is_alive = is_certain = False
        self._unanswered = 0 if is_alive else self._unanswered + 1
        was_up = isinstance(self._condition.state, Up)
        if is_alive or (was_up and not is_certain and self._unanswered < PATIENCE):
            return Up()
        return await self._loading()

    async def _loading(self) -> Loading:
        if self._hf_home is None:
            return Loading()
        # A network volume may be slow to answer.
        if await asyncio.to_thread(cache.is_complete, self._hf_home):
            return Loading(Stage.WARMING)
        done = await asyncio.to_thread(cache.downloaded_bytes, self._hf_home)
        return Loading(Stage.DOWNLOADING, done)

    def _tell_progress(self) -> None:
        """Every change is told by `Condition`; this is for what lasts."""
        state, now_s = self._condition.state, asyncio.get_running_loop().time()
        match state, self._told_s:
            case Loading(Stage.STARTING), None:
                _log.info("%s: it is asked every second", state)
            case Loading(Stage.DOWNLOADING), float(told_s) if now_s - told_s >= TELL_S:
                _log.info("%s", state)
            case _, float():
                return
        self._told_s = now_s
