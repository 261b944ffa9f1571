"""The HTTP API: calls in progress, model servers, personas; for the console's pages and for other
programs. `history_api` adds calls past. `openapi` describes it all, /api/docs shows that.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, fields
from typing import Any

import orjson
from aiohttp import web

from personaplex_bridge.config import Settings
from personaplex_bridge.console.access import ConsoleAccess
from personaplex_bridge.console.history_api import Handler, HistoryApi
from personaplex_bridge.console.openapi import describe
from personaplex_bridge.console.past import PastCalls
from personaplex_bridge.console.picture import Look, as_dict
from personaplex_bridge.console.problems import Problem
from personaplex_bridge.console.watching import HEARTBEAT, Watching
from personaplex_bridge.personaplex.voices import VOICES
from personaplex_bridge.personas import Catalogue
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Lag, phrases
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.web.aftermath import FORWARDED, GOING_AWAY, HUNG_UP, SAID_GOODBYE

API_PATH = "/api"

MAX_WATCHED_S = 3600.0
"""A watcher has to come again after so long, and show who they are."""

SEND_TIMEOUT_S = 10.0
"""How long a watcher may take to read what it is sent."""

RETRY_MS = 1000
"""How soon a browser comes back that has lost its connection."""

ENDINGS = {
    "hangup": Ending(EndedBy.BRIDGE, "hung up on from the console", GOING_AWAY, HUNG_UP),
    "goodbye": Ending(EndedBy.BRIDGE, "ended politely from the console", GOING_AWAY, SAID_GOODBYE),
    "forward": Ending(EndedBy.BRIDGE, "forwarded from the console", GOING_AWAY, FORWARDED),
}
"""By the last part of the path."""


class Api:
    """The routes below /api."""

    def __init__(
        self,
        access: ConsoleAccess,
        look: Look,
        watching: Watching,
        catalogue: Catalogue,
        settings: Settings,
        past: PastCalls | None = None,
    ) -> None:
        self._access = access
        self._look = look
        self._watching = watching
        self._catalogue = catalogue
        self._settings = settings
        self._history = HistoryApi(past, look.forget)
        self._description = _json(describe())

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes to an application's."""
        gets: dict[str, Handler] = {
            "": self.nothing_here,
            "/bridge": self.tell_bridge,
            "/calls": self.list_calls,
            "/calls/{sid}": self.tell_call,
            "/servers": self.list_servers,
            "/personas": self.list_personas,
            "/openapi.json": self.tell_description,
        }
        for path, handler in gets.items():
            router.add_get(API_PATH + path, self._guarded(handler))
        # No HEAD: there is nothing to tell without a body.
        router.add_get(f"{API_PATH}/events", self._guarded(self.watch), allow_head=False)
        for action in ENDINGS:
            router.add_post(f"{API_PATH}/calls/{{sid}}/{action}", self._guarded(self.end_call))
        self._history.add_to(router, self._guarded)

    def _guarded(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._access.check(request)
            return await handler(request)

        return handle

    async def nothing_here(self, _request: web.Request) -> web.Response:
        """The API's root leads to its description."""
        raise web.HTTPSeeOther(f"{API_PATH}/docs")

    async def tell_bridge(self, _request: web.Request) -> web.Response:
        """The bridge itself."""
        return _answer(self._look.bridge())

    async def list_calls(self, _request: web.Request) -> web.Response:
        """Calls in progress, and those that ended last."""
        return _answer(await self._look.listed(await self._look.picture()))

    async def tell_call(self, request: web.Request) -> web.Response:
        """A call in progress, or one that ended lately, with what the model said."""
        sid = request.match_info["sid"]
        session = self._look.sessions().get(sid)
        if session is not None:
            return _answer({"in_progress": True, **self._whole(session)})
        for ended in reversed(self._look.ended()):
            if ended.sid == sid:
                transcript = [{"at_s": at_s, "text": text} for at_s, text in ended.transcript]
                return _answer({"in_progress": False, **_flat(ended), "transcript": transcript})
        raise Problem(404, "no such call is in progress, or ended lately")

    async def end_call(self, request: web.Request) -> web.Response:
        """Hang up, say goodbye or forward; answers at once, and the call ends in a moment."""
        action = request.path.rpartition("/")[2]
        session = self._look.sessions().get(request.match_info["sid"])
        if session is None:
            raise Problem(404, "no such call is in progress")
        if action == "forward" and self._settings.forward_to is None:
            raise Problem(409, "FORWARD_TO is not set: there is nobody to forward to")
        session.end(ENDINGS[action])
        return _answer({"sid": request.match_info["sid"], "action": action}, 202)

    async def list_servers(self, _request: web.Request) -> web.Response:
        """The model servers."""
        return _answer({"servers": self._look.servers()})

    async def list_personas(self, _request: web.Request) -> web.Response:
        """The personas, the voices there are, and who answers if nothing else is said."""
        personas = [
            {
                "name": persona.name,
                "description": persona.description,
                "experimental": persona.experimental,
                "voice": persona.role.voice,
                "text_prompt": persona.role.text_prompt,
                "numbers": [
                    n for n, name in self._catalogue.numbers.items() if name == persona.name
                ],
            }
            for persona in self._catalogue.personas.values()
        ]
        default = self._settings.persona
        return _answer({"personas": personas, "default": default, "voices": sorted(VOICES)})

    async def tell_description(self, _request: web.Request) -> web.Response:
        """What is described here, as OpenAPI has it."""
        return web.Response(body=self._description, content_type="application/json")

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events, until the watcher leaves, is too slow, or has to come again."""
        if self._watching.is_full:
            raise Problem(503, "too many watch already, or the bridge stops", Retry_After="5")
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            async with asyncio.timeout(MAX_WATCHED_S):
                await self._send_all(request, response)
        except (TimeoutError, ConnectionError):
            pass  # it comes back, or it is gone
        return response

    async def _send_all(self, request: web.Request, response: web.StreamResponse) -> None:
        await response.write(b"retry: %d\n\n" % RETRY_MS)
        async with self._watching.watcher(request.headers.get("Last-Event-ID", "")) as watcher:
            async for event in watcher:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await response.write(HEARTBEAT if event is None else event.serialize())

    def _whole(self, session: BridgeSession) -> dict[str, Any]:
        record = session.count()
        said = phrases(record.words)
        transcript = [{"at_s": round(at_s, 2), "text": text} for at_s, text in said]
        call = as_dict(self._look.call(session))
        return {**call, "transcript": transcript, "figures": _figures(record)}


def _figures(record: CallRecord) -> dict[str, Any]:
    """Every number that is counted of a call, by its name in `CallRecord`."""
    figures: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, Lag):
            figures |= {
                f"{one.name}_{name}": getattr(value, name)
                for name in ("p50_ms", "p99_ms", "max_ms")
            }
        elif isinstance(value, int | float):
            figures[one.name] = value
    return figures


def _flat(ended: Any) -> dict[str, Any]:
    return asdict(ended)


def _answer(content: object, status: int = 200) -> web.Response:
    return web.Response(body=_json(content), status=status, content_type="application/json")


def _json(content: object) -> bytes:
    return orjson.dumps(content)
