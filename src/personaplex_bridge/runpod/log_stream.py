"""A pod's log as a stream of events, opened anew where it breaks off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import aiohttp

from personaplex_bridge.errors import RunPodError
from personaplex_bridge.runpod.answers import LogLine
from personaplex_bridge.runpod.events import Event, EventParser
from personaplex_bridge.runpod.requests import Requests, may_pass

SILENCE_S = 90.0
"""A stream without a word for so long is opened anew: the connection may be dead."""

REMEMBERED_LINES = 512
"""Lines compared with after a stream was opened anew, so that none comes twice."""


class LogStream:
    """One reader of one log."""

    def __init__(self, requests: Requests, path: str, query: Mapping[str, str]) -> None:
        self._requests = requests
        self._url = f"{requests.url}{path}"
        self._query = query
        # In order of arrival. An event's id is its time, which several lines may share.
        self._recent: dict[LogLine, None] = {}
        self._last_id = ""
        self._failures = 0
        self._was_silent = False

    async def lines(self, quiet_s: float | None) -> AsyncGenerator[LogLine]:
        """Lines, until none comes for `quiet_s`; for ever, if that is None.

        Raises:
            RunPodError: refused, or broken off too often without a line in between.
        """
        patience = self._requests.patience
        while True:
            try:
                async with aclosing(self._open(quiet_s)) as opened:
                    async for line in opened:
                        yield line
                if quiet_s is not None:
                    return
                if self._was_silent:
                    continue
                error = RunPodError("RunPod ended the log's stream")
            except (aiohttp.ClientError, TimeoutError) as cause:
                error = self._requests.no_answer(cause)
            except RunPodError as refused:
                if not may_pass(refused):
                    raise
                error = refused
            self._failures += 1
            deadline = asyncio.get_running_loop().time() + patience.total_s
            await self._requests.wait(self._failures, error, deadline)

    async def _open(self, quiet_s: float | None) -> AsyncGenerator[LogLine]:
        """Lines of one connection, without those that are known; ends with it, or with silence."""
        headers = {"Accept": "text/event-stream"}
        if self._last_id:  # wins over `tail` and `since` (getPodLogs)
            headers["Last-Event-ID"] = self._last_id
        async with self._requests.http.get(
            self._url,
            params=self._query,
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._requests.patience.request_s, sock_read=2 * SILENCE_S
            ),
            allow_redirects=False,
        ) as response:
            await self._requests.refuse(response)
            self._was_silent = False
            parser, repeated = EventParser(), set(self._recent)
            while piece := await self._piece(response, quiet_s):
                for event in _events(parser, piece):
                    line = _line(event)
                    if line in repeated:
                        repeated.discard(line)
                        continue
                    self._remember(line)
                    yield line

    async def _piece(self, response: aiohttp.ClientResponse, quiet_s: float | None) -> bytes:
        """What comes next; nothing at the end, or after silence."""
        try:
            return await asyncio.wait_for(response.content.readany(), quiet_s or SILENCE_S)
        except TimeoutError:
            # A quiet pod, or a dead connection: no reason to give up.
            self._failures, self._was_silent = 0, True
            return b""

    def _remember(self, line: LogLine) -> None:
        self._failures, self._last_id = 0, line.id
        self._recent[line] = None
        if len(self._recent) > REMEMBERED_LINES:
            self._recent.pop(next(iter(self._recent)))


def _events(parser: EventParser, piece: bytes) -> list[Event]:
    try:
        return parser.feed(piece)
    except ValueError as error:
        raise RunPodError(f"the log's stream: {error}", status=200) from error


def _line(event: Event) -> LogLine:
    try:
        return LogLine.parse(event.id, json.loads(event.data))
    except ValueError as error:
        raise RunPodError(f"the log's stream: {error}", status=200) from error
