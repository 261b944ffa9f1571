"""A stand-in for RunPod's REST API v2, as strict as the real one, and for its proxy.

It has the routes that renting a GPU needs. What the contract doesn't name is refused (422), as are
bodies of wrong types; cross-field rules and missing stock are 400, states that don't allow an
action 409, too many requests 429 with Retry-After. Pods pass through their states in time, have
logs, cost money, and run something: see `pods.RunPodContainer`.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from personaplex_bridge.simulator.runpod import rules
from personaplex_bridge.simulator.runpod.account import Account, Holdings
from personaplex_bridge.simulator.runpod.log_stream import stream
from personaplex_bridge.simulator.runpod.openapi import Document
from personaplex_bridge.simulator.runpod.pods import Pace, RunPodContainer, nothing
from personaplex_bridge.simulator.runpod.problems import Problem, invalid
from personaplex_bridge.simulator.runpod.proxy import IDLE_CUT_S, Proxy
from personaplex_bridge.simulator.runpod.rates import QUOTAS, Quota, Rates

_RATE_HEADERS = web.RequestKey("rate_headers", dict)

KEY = "rpa_STANDIN"
"""The key that the stand-in takes, unless told otherwise."""


@dataclass(slots=True)
class Trouble:
    """What goes wrong with the next requests that fit: a status, or no answer at all."""

    method: str
    path: str
    """A pattern that the whole path must match."""

    status: int | None = None
    """None: the connection is cut."""

    done: bool = False
    """Whether the request is carried out all the same."""

    late_s: float = 0.0
    """How much later that is."""

    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """How the stand-in is to be. `openapi`: a document that every request is checked against."""

    key: str = field(default=KEY, repr=False)
    pace: Pace = field(default_factory=Pace)
    quotas: tuple[Quota, ...] = QUOTAS
    container: RunPodContainer = nothing
    openapi: Path | None = None
    idle_cut_s: float = IDLE_CUT_S
    """After which the proxy cuts a WebSocket on which nothing moves."""

    log_lines_per_connection: int | None = None
    """After which a log's stream breaks off; None: it doesn't."""


class RunPodServer:
    """The stand-in. `requests` tells what was asked, `troubles` what is to go wrong."""

    def __init__(self, options: Options | None = None, holdings: Holdings | None = None) -> None:
        self.options = options or Options()
        self.account = Account(holdings, self.options.pace, self.options.container)
        self.requests: list[tuple[str, str]] = []
        self.troubles: list[Trouble] = []
        self._doing: set[asyncio.Task[None]] = set()
        self._rates = Rates(self.options.quotas)
        self._document = Document.read(self.options.openapi) if self.options.openapi else None

    def application(self) -> web.Application:
        """The API under /v2, and the proxy under /proxy/{pod_id}-{port}/."""
        app = web.Application(middlewares=[self._guard], client_max_size=1 << 20)
        pod = "/v2/pods/{id}"
        app.add_routes(
            [
                web.get("/v2/pods", self._list, allow_head=False),
                web.post("/v2/pods", self._create),
                web.get(pod, self._get, allow_head=False),
                web.delete(pod, self._delete),
                web.post(f"{pod}/action", self._act),
                web.get(f"{pod}/logs", self._logs, allow_head=False),
                web.get("/v2/catalog/gpus", self._gpus, allow_head=False),
                web.get("/v2/network-volumes", self._volumes, allow_head=False),
                web.get("/v2/billing/pods", self._billing, allow_head=False),
            ]
        )
        proxy = Proxy(self.account, self.options.idle_cut_s)
        proxy.add(app)
        app.on_shutdown.append(self._close)
        app.cleanup_ctx.append(self._lives)
        return app

    async def _close(self, _app: web.Application) -> None:
        for doing in self._doing:
            doing.cancel()
        await self.account.close()

    async def _lives(self, _app: web.Application) -> AsyncIterator[None]:
        self.account.now()  # its time begins
        yield
        await self.account.close()

    # -------------------------------------------------------------------------- who gets in

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v2"):
            return await handler(request)
        self.requests.append((request.method, request.path_qs))
        headers: dict[str, str] = {}
        try:
            self._let_in(request)
            headers = self._rates.count(asyncio.get_running_loop().time())
            request[_RATE_HEADERS] = headers
            if self._document is not None:
                await self._document.check(request)
            response = await self._answer(request, handler)
        except Problem as problem:
            response = problem.response()
        except web.HTTPException as error:
            response = Problem(error.status, error.reason).response()
        if not response.prepared:
            response.headers.update(headers)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _let_in(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Problem(401, "missing bearer token")
        if not hmac.compare_digest(key.encode(), self.options.key.encode()):
            raise Problem(401, "invalid bearer token")

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        trouble = self._trouble(request)
        if trouble is None:
            return await handler(request)
        if trouble.done:
            await request.read()  # while the client is there
            doing = asyncio.create_task(_late(handler, request, trouble.late_s))
            self._doing.add(doing)
            doing.add_done_callback(self._doing.discard)
            await asyncio.shield(doing)  # it is done, whoever waits for it
        if trouble.status is not None:
            raise Problem(trouble.status, "trouble, as ordered", headers=trouble.headers)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _trouble(self, request: web.Request) -> Trouble | None:
        for trouble in self.troubles:
            fits = re.fullmatch(trouble.path, request.path)
            if fits and trouble.method == request.method and trouble.times > 0:
                trouble.times -= 1
                return trouble
        return None

    # ------------------------------------------------------------------------------ routes

    async def _list(self, request: web.Request) -> web.Response:
        _query(request, "pods")
        now = self.account.now()
        return web.json_response({"pods": [pod.entry(now) for pod in self.account.pods.values()]})

    async def _create(self, request: web.Request) -> web.Response:
        _query(request, "pod")
        body = await _body(request, rules.pod)
        pod = self.account.create(body)
        return web.json_response(pod.entry(self.account.now()), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        _query(request, "pod")
        return web.json_response(self._pod(request).entry(self.account.now()))

    async def _delete(self, request: web.Request) -> web.Response:
        _query(request, "pod")
        self.account.delete(request.match_info["id"])
        return web.Response(status=204)

    async def _act(self, request: web.Request) -> web.Response:
        _query(request, "pod")
        body = await _body(request, rules.action)
        pod = self.account.act(request.match_info["id"], body["action"])
        if pod is None:
            return web.Response(status=204)
        return web.json_response(pod.entry(self.account.now()))

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        _query(request, "logs")
        limit = self.options.log_lines_per_connection
        headers = request[_RATE_HEADERS]
        return await stream(request, self._pod(request).log, headers, limit)

    async def _gpus(self, request: web.Request) -> web.Response:
        query = _query(request, "gpus")
        return web.json_response({"gpus": [gpu.entry(query) for gpu in self.account.holdings.gpus]})

    async def _volumes(self, request: web.Request) -> web.Response:
        _query(request, "volumes")
        entries = [volume.entry() for volume in self.account.holdings.volumes]
        return web.json_response({"networkVolumes": entries})

    async def _billing(self, request: web.Request) -> web.Response:
        return web.json_response(self.account.billing(_query(request, "billing")))

    def _pod(self, request: web.Request) -> Any:
        return self.account.get(request.match_info["id"])


async def _late(handler: Handler, request: web.Request, late_s: float) -> None:
    await asyncio.sleep(late_s)
    await handler(request)


async def _body(request: web.Request, wrong_with: Callable[[Any], list[str]]) -> Any:
    if request.content_type != "application/json":
        raise Problem(400, "the body must be application/json")
    try:
        body = await request.json()
    except ValueError:
        raise Problem(400, "the body is no JSON") from None
    wrong = wrong_with(body)
    if wrong:
        raise invalid(wrong)
    return body


def _query(request: web.Request, route: str) -> dict[str, str]:
    wrong = rules.query(route, request.query)
    if wrong:
        raise invalid(wrong)
    why = rules.across_query(route, request.query)
    if why is not None:
        raise Problem(400, why)
    return dict(request.query)
