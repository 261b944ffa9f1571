"""The part of the API that is about calls past: found, exported, listened to, deleted."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from personaplex_bridge import logs
from personaplex_bridge.console.bodies import read_body
from personaplex_bridge.console.past import (
    ID,
    PastCalls,
    PastDeletion,
    PastSearch,
    read_caller,
    read_export,
    read_query,
    read_search,
)
from personaplex_bridge.console.problems import Problem

HISTORY_PATH = "/api/history"

MAX_EXPORTS = 2
"""At a time: each takes the database's time, and some of the bridge's."""

READ_TIMEOUT_S = 60.0
"""How long somebody may take to read a part of an export."""

RETRY_S = 10

MAX_PROBLEM_CHARS = 1000

CONTENT_TYPES = {"json": "application/json", "csv": "text/csv"}

_ONE_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)", re.ASCII | re.IGNORECASE)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(logs.NAME)


class HistoryApi:
    """The routes below /api/history. `past` is None if no history is kept: then all is 404.
    `forget` is told the SIDs of calls that were deleted.
    """

    def __init__(
        self, past: PastCalls | None, forget: Callable[[Collection[str]], None] = lambda sids: None
    ) -> None:
        self._past = past
        self._forget = forget
        self._exports = 0

    def add_to(self, router: web.UrlDispatcher, guarded: Callable[[Handler], Handler]) -> None:
        """Add the routes to an application's, each `guarded`."""
        one = f"{HISTORY_PATH}/{{id:{ID}}}"
        router.add_post(f"{HISTORY_PATH}/search", guarded(self.search))
        # No HEAD: who counts the bytes of an export has it made.
        router.add_get(f"{HISTORY_PATH}/export", guarded(self.export_query), allow_head=False)
        router.add_post(f"{HISTORY_PATH}/export", guarded(self.export_body))
        router.add_post(f"{HISTORY_PATH}/delete-caller", guarded(self.delete_caller))
        router.add_get(one, guarded(self.tell))
        router.add_delete(one, guarded(self.delete))
        router.add_get(f"{one}/recording", guarded(self.play))

    async def search(self, request: web.Request) -> web.Response:
        """A page. A body, not a query: numbers and words have no place in a proxy's log."""
        past = self._kept()
        search = read_search(await _json_of(request))
        try:
            return _answer(await past.search(search))
        except ValueError as error:
            raise _wrong(error) from None

    async def tell(self, request: web.Request) -> web.Response:
        """A call past, with all that is kept of it."""
        try:
            call = await self._kept().call(request.match_info["id"])
        except ValueError:
            call = None
        if call is None:
            raise Problem(404, "no such call is kept")
        return _answer(call)

    async def play(self, request: web.Request) -> web.FileResponse:
        """A call's recording, or the part of it that `Range` names. Browsers don't keep it."""
        try:
            file = await self._kept().recording(request.match_info["id"])
        except ValueError:
            file = None
        if file is None:
            raise Problem(404, "no recording of such a call is kept")
        name = f"call-{request.match_info['id']}.opus"
        headers = {
            hdrs.CONTENT_TYPE: "audio/ogg",
            hdrs.CONTENT_DISPOSITION: f'inline; filename="{name}"',
            hdrs.CACHE_CONTROL: "no-store",
        }
        return _Played(file, headers=headers)

    async def export_query(self, request: web.Request) -> web.StreamResponse:
        """All calls of a search that fits into an address."""
        past = self._kept()
        search, form = read_query(request.query.items())
        return await self._export(request, past, search, form)

    async def export_body(self, request: web.Request) -> web.StreamResponse:
        """All calls of a search."""
        past = self._kept()
        search, form = read_export(await _json_of(request))
        return await self._export(request, past, search, form)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a call, and its recording."""
        try:
            deleted = await self._kept().delete_call(request.match_info["id"])
        except ValueError as error:
            raise Problem(409, _first_line(error)) from None
        if not deleted.calls and not deleted.problem:
            raise Problem(404, "no such call is kept")
        return self._told(deleted)

    async def delete_caller(self, request: web.Request) -> web.Response:
        """Delete all that is kept of a caller."""
        past = self._kept()
        by, value = read_caller(await _json_of(request))
        try:
            deleted = await (
                past.delete_caller(value) if by == "number" else past.delete_caller_of(value)
            )
        except ValueError as error:
            raise Problem(409, _first_line(error)) from None
        if deleted is None:
            raise Problem(404, "no such call is kept")
        return self._told(deleted)

    def _told(self, deleted: PastDeletion) -> web.Response:
        self._forget(deleted.sids)
        counts = {
            "calls": deleted.calls,
            "recordings": deleted.recordings,
            "recordings_missing": deleted.recordings_missing,
        }
        told = "history: %d calls and %d recordings deleted on request; %d recordings not found"
        _log.info(told, *counts.values())
        if deleted.problem:
            raise Problem(409, deleted.problem[:MAX_PROBLEM_CHARS])
        return _answer(counts)

    async def _export(
        self, request: web.Request, past: PastCalls, search: PastSearch, form: str
    ) -> web.StreamResponse:
        if self._exports >= MAX_EXPORTS:
            after = str(RETRY_S)
            raise Problem(503, f"{MAX_EXPORTS} exports are made already", Retry_After=after)
        self._exports += 1
        try:
            async with aclosing(past.export(search, form)) as parts:
                try:
                    first = await anext(parts) + await anext(parts, b"")
                except ValueError as error:
                    raise _wrong(error) from None
                return await _send(request, form, first, parts)
        finally:
            self._exports -= 1

    def _kept(self) -> PastCalls:
        if self._past is None:
            raise Problem(404, "no call history is kept: see HISTORY in docs/history.md")
        return self._past


class _Played(web.FileResponse):
    """A file, or a part of it. A Range that isn't one `bytes=a-b` is as good as none: whoever asks
    then gets the whole (RFC 9110, 14.2).
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """As any file's."""
        if not _ONE_RANGE.fullmatch(request.headers.get(hdrs.RANGE, "bytes=0-")):
            headers = request.headers.copy()
            del headers[hdrs.RANGE]
            request = request.clone(headers=headers)
        return await super().prepare(request)


async def _send(
    request: web.Request, form: str, first: bytes, parts: AsyncIterator[bytes]
) -> web.StreamResponse:
    """A file, as it is made. One that can't be made to its end breaks off, and can't be taken for
    a whole one.
    """
    headers = {
        hdrs.CONTENT_TYPE: f"{CONTENT_TYPES[form]}; charset=utf-8",
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="calls.{form}"',
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        await _write(response, first)
        async for part in parts:
            await _write(response, part)
    except (Problem, TimeoutError) as error:
        why = "the database can't be reached" if isinstance(error, Problem) else "nobody reads it"
        _log.warning("an export of the call history breaks off: %s", why)
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # nobody wants it any more
    return response


async def _write(response: web.StreamResponse, part: bytes) -> None:
    async with asyncio.timeout(READ_TIMEOUT_S):
        await response.write(part)


async def _json_of(request: web.Request) -> object:
    if request.content_type != "application/json":
        raise Problem(415, "Content-Type must be application/json")
    try:
        return orjson.loads(await read_body(request))
    except orjson.JSONDecodeError as error:
        raise _wrong(error) from None


def _wrong(error: ValueError) -> Problem:
    return Problem(400, _first_line(error))


def _first_line(error: ValueError) -> str:
    return str(error).partition("\n")[0][:200]


def _answer(content: Any) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
