"""RunPod's HTTP proxy: `/proxy/{pod_id}-{port}/...` reaches the pod's container.

Anyone who knows the URL gets in. WebSockets on which nothing moves are cut.
"""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from personaplex_bridge.simulator.runpod.account import Account

IDLE_CUT_S = 100.0

MAX_MESSAGE_BYTES = 8 << 20

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)


class Proxy:
    """Forwards requests and WebSockets to the containers of one account's pods."""

    def __init__(self, account: Account, idle_cut_s: float) -> None:
        self._account = account
        self._idle_cut_s = idle_cut_s
        self._sockets: set[web.WebSocketResponse] = set()

    def add(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_route("*", "/proxy/{target:[^/]+}{tail:/.*|}", self._forward)
        app.on_shutdown.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        for socket in list(self._sockets):
            await socket.close(code=1001)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        base = self._base(request.match_info["target"])
        if base is None:
            return web.Response(status=404, text="no such pod, or not running")
        # As it came: no other quoting.
        tail = request.raw_path.removeprefix(f"/proxy/{request.match_info['target']}")
        url = URL(base.rstrip("/") + tail, encoded=True)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP and not name.lower().startswith("sec-websocket-")
        }
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._socket(request, url, headers)
            return await _plain(request, url, headers)
        except (aiohttp.ClientConnectionError, TimeoutError):
            return web.Response(status=502, text="bad gateway")

    def _base(self, target: str) -> str | None:
        """Where a running pod's container answers, for an HTTP port that it exposes."""
        found = re.fullmatch(r"([a-z0-9]+)-(\d+)", target)
        pod = self._account.pods.get(found[1]) if found else None
        if found is None or pod is None or f"{found[2]}/http" not in pod.body.get("ports", []):
            return None
        return pod.base_url or None

    async def _socket(
        self, request: web.Request, url: URL, headers: dict[str, str]
    ) -> web.StreamResponse:
        """To the container first: a refusal of its must reach the client before any upgrade."""
        refused: list[web.Response] = []
        trace = aiohttp.TraceConfig()

        async def note(
            _session: aiohttp.ClientSession, _context: SimpleNamespace, params: Any
        ) -> None:
            if params.response.status != 101:
                refused.append(await _copy(params.response))

        trace.on_request_end.append(note)
        async with aiohttp.ClientSession(trace_configs=[trace]) as http:
            try:
                there = await http.ws_connect(
                    url,
                    headers=headers,
                    autoping=False,
                    autoclose=False,
                    max_msg_size=MAX_MESSAGE_BYTES,
                )
            except aiohttp.WSServerHandshakeError:
                return refused[0]
            here = web.WebSocketResponse(
                autoping=False, autoclose=False, compress=False, max_msg_size=MAX_MESSAGE_BYTES
            )
            self._sockets.add(here)
            try:
                await here.prepare(request)
                if not await self._relay(here, there) and request.transport is not None:
                    request.transport.abort()  # without a closing handshake
            finally:
                self._sockets.discard(here)
                await there.close()
            return here

    async def _relay(
        self, here: web.WebSocketResponse, there: aiohttp.ClientWebSocketResponse
    ) -> bool:
        """Pass on until one side closes (True), or nothing has moved for too long (False)."""
        moved = asyncio.Event()
        ways = [
            asyncio.create_task(_pass_on(here, there, moved)),
            asyncio.create_task(_pass_on(there, here, moved)),
        ]
        try:
            while not any(way.done() for way in ways):
                moved.clear()
                waiting = asyncio.create_task(moved.wait())
                done, _ = await asyncio.wait(
                    {*ways, waiting}, timeout=self._idle_cut_s, return_when="FIRST_COMPLETED"
                )
                waiting.cancel()
                if not done:
                    return False
            return True
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(source: Any, sink: Any, moved: asyncio.Event) -> None:
    """Messages one way, pings and pongs among them, until the source closes."""
    while True:
        message = await source.receive()
        moved.set()
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            case aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            case aiohttp.WSMsgType.PING:
                await sink.ping(message.data)
            case aiohttp.WSMsgType.PONG:
                await sink.pong(message.data)
            case aiohttp.WSMsgType.CLOSE:
                await sink.close(code=message.data or 1000, message=(message.extra or "").encode())
                await source.close()
                return
            case _:  # it is gone without a word
                await sink.close(code=1011)
                return


async def _plain(request: web.Request, url: URL, headers: dict[str, str]) -> web.Response:
    body = await request.read()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as response,
    ):
        return await _copy(response)


async def _copy(response: aiohttp.ClientResponse) -> web.Response:
    headers = {
        name: value
        for name, value in response.headers.items()
        if name.lower() not in _HOP_BY_HOP | {"content-length"}
    }
    return web.Response(status=response.status, headers=headers, body=await response.read())
