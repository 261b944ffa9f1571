"""A pod's log as server-sent events (getPodLogs)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web

from personaplex_bridge.simulator.runpod.pods import Entry, Log

HEARTBEAT_S = 15.0
"""A comment is sent when no line came for so long, so that nobody takes the stream for dead."""

TAIL = 100


async def stream(
    request: web.Request, log: Log, headers: Mapping[str, str], limit: int | None
) -> web.StreamResponse:
    """Send the history that is asked for, then what comes. After `limit` lines: break off."""
    response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    response.headers["Cache-Control"] = "no-cache"
    await response.prepare(request)
    source, sent = request.query.get("source"), 0
    last = _where(request, [entry for entry in log.entries if source in (None, entry.source)])
    with suppress(ConnectionResetError):
        while True:
            grown = log.grown
            for entry in [entry for entry in log.entries if entry.id > last]:
                last = entry.id
                if source not in (None, entry.source):
                    continue
                if limit is not None and sent >= limit and request.transport is not None:
                    request.transport.abort()
                    return response
                await response.write(_event(entry))
                sent += 1
            if log.closed:
                break
            await _next(grown, response)
    return response


async def _next(grown: asyncio.Event, response: web.StreamResponse) -> None:
    try:
        await asyncio.wait_for(grown.wait(), HEARTBEAT_S)
    except TimeoutError:
        await response.write(b": still here\n\n")


def _where(request: web.Request, entries: list[Entry]) -> str:
    """The id after which to begin. Ids sort as their times do."""
    cursor = request.headers.get("Last-Event-ID")
    if cursor is not None:
        return cursor
    since = request.query.get("since")
    if since is not None:
        return max((entry.id for entry in entries if entry.time < since), default="")
    tail = int(request.query.get("tail", TAIL))
    older = entries[: len(entries) - tail] if tail else entries
    return older[-1].id if older else ""


def _event(entry: Entry) -> bytes:
    data = json.dumps({"ts": entry.time, "source": entry.source, "line": entry.line})
    return f"id: {entry.id}\ndata: {data}\n\n".encode()
