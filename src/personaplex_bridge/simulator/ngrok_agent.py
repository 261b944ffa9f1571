"""The ngrok agent's stand-in: its local API, and tunnels that really forward.

A tunnel's public address is a port of this machine. Requests that come there reach the tunnel's own
address with the headers that ngrok adds; whatever else goes over the connection, such as a
WebSocket, is passed on as it is. What looks like a browser gets the page of free accounts instead.

https://ngrok.com/docs/agent/api/
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"
CALLER = "198.51.100.7"
"""Where requests are said to come from (RFC 5737)."""

MAX_HEAD_BYTES = 64 * 1024
CONNECT_S = 5.0

_KNOWN = frozenset(
    {"name", "proto", "addr", "inspect", "schemes", "hostname", "domain", "subdomain", "metadata"}
    | {"host_header", "basic_auth", "bind_tls"}
)
_ADDRESS = re.compile(r"(?:http://)?(?:(localhost|127\.0\.0\.1):)?(\d{1,5})")


@dataclass
class _Tunnel:
    """An open tunnel, as the API tells it."""

    name: str
    addr: str
    inspect: bool
    server: asyncio.Server
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def public_url(self) -> str:
        return f"http://{HOST}:{self.server.sockets[0].getsockname()[1]}"

    def told(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ID": f"{abs(hash(self.name)):032x}",
            "uri": f"/api/tunnels/{self.name}",
            "public_url": self.public_url,
            "proto": "https",
            "config": {"addr": f"http://localhost:{self.addr}", "inspect": self.inspect},
            "metrics": {"conns": {"count": self.connections, "gauge": len(self.tasks)}},
        }


class NgrokAgentStandin:
    """The agent. Tunnels close with its application, or by `close_all`."""

    def __init__(self, most: int = 3) -> None:
        self._tunnels: dict[str, _Tunnel] = {}
        self._most = most

    @property
    def tunnels(self) -> list[dict[str, Any]]:
        """The open ones, as the API tells them."""
        return [tunnel.told() for tunnel in self._tunnels.values()]

    def application(self) -> web.Application:
        """The API: `/api/tunnels`."""
        app = web.Application()
        app.router.add_get("/api/tunnels", self._list)
        app.router.add_post("/api/tunnels", self._start)
        app.router.add_get("/api/tunnels/{name}", self._detail)
        app.router.add_delete("/api/tunnels/{name}", self._stop)
        app.cleanup_ctx.append(self._closing)
        return app

    async def open(self, addr: str, name: str, *, inspect: bool = True) -> str:
        """Open a tunnel to a port, as `ngrok http 8080` does; its public URL."""
        tunnel: _Tunnel

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a handler always runs in a task
            tunnel.connections += 1
            tunnel.tasks.add(task)
            try:
                await _forward(tunnel.public_url, int(tunnel.addr), reader, writer)
            finally:
                tunnel.tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accept, HOST, 0, limit=MAX_HEAD_BYTES)
        tunnel = _Tunnel(name, addr, inspect, server)
        self._tunnels[name] = tunnel
        return tunnel.public_url

    async def close_all(self) -> None:
        """As when the agent ends."""
        for name in list(self._tunnels):
            await self._close(name)

    async def _close(self, name: str) -> None:
        tunnel = self._tunnels.pop(name)
        tunnel.server.close()
        for task in tunnel.tasks:
            task.cancel()
        await asyncio.gather(*tunnel.tasks, return_exceptions=True)

    async def _closing(self, _app: web.Application) -> AsyncIterator[None]:
        yield
        await self.close_all()

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response({"tunnels": self.tunnels, "uri": "/api/tunnels"})

    async def _detail(self, request: web.Request) -> web.Response:
        tunnel = self._tunnels.get(request.match_info["name"])
        return _not_found() if tunnel is None else web.json_response(tunnel.told())

    async def _stop(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self._tunnels:
            return _not_found()
        await self._close(request.match_info["name"])
        return web.Response(status=204)

    async def _start(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _error(415, 101, "invalid content type", "only application/json is accepted")
        try:
            given = await request.json()
        except ValueError as error:
            return _error(400, 102, "invalid tunnel configuration", str(error))
        if why := self._wrong(given):
            return _error(400, 102, "invalid tunnel configuration", why)
        if len(self._tunnels) >= self._most:
            why = "Your account may not run more tunnels over a single session. ERR_NGROK_324"
            return _error(502, 103, "failed to start tunnel", why)
        address = _ADDRESS.fullmatch(str(given["addr"]))
        assert address is not None  # noqa: S101 - looked at above
        await self.open(address[2], given["name"], inspect=given.get("inspect", True))
        return web.json_response(self._tunnels[given["name"]].told(), status=201)

    def _wrong(self, given: Any) -> str:
        """What is wrong with a tunnel's definition; empty if nothing is."""
        if not isinstance(given, dict):
            return "no object"
        if unknown := set(given) - _KNOWN:
            return f"yaml: unmarshal errors: field {min(unknown)} not found"
        name = given.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            return "a tunnel needs a name"
        if name in self._tunnels:
            return f'tunnel "{name}" already exists'
        if given.get("proto") != "http":
            return "this stand-in has tunnels with proto http only"
        if not isinstance(given.get("inspect", True), bool):
            return "inspect is true or false"
        if not _ADDRESS.fullmatch(str(given.get("addr", ""))):
            return "addr is no port of this machine"
        return ""


async def _forward(
    public_url: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection: the request's head with ngrok's headers, then all bytes as they come."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = await reader.readuntil(b"\r\n\r\n")
        if _is_browser(head):
            writer.write(_page(200, b"You are about to visit a site served for free", b"6024"))
            await writer.drain()
            return
        try:
            async with asyncio.timeout(CONNECT_S):
                upstream = await asyncio.open_connection(HOST, port)
        except (OSError, TimeoutError):
            writer.write(_page(502, b"the endpoint's upstream can't be reached", b"8012"))
            await writer.drain()
            return
        try:
            upstream[1].write(_with_headers(head, public_url))
            await _both_ways((reader, writer), upstream)
        finally:
            upstream[1].close()


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _both_ways(near: _Stream, far: _Stream) -> None:
    """Until one side has ended, and what it said is passed on."""
    pumps = [
        asyncio.create_task(_pump(near[0], far[1])),
        asyncio.create_task(_pump(far[0], near[1])),
    ]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


def _with_headers(head: bytes, public_url: str) -> bytes:
    """Ngrok terminates TLS, and adds who has asked it for what."""
    added = (
        f"X-Forwarded-For: {CALLER}\r\n"
        f"X-Forwarded-Host: {public_url.partition('//')[2]}\r\n"
        "X-Forwarded-Proto: https\r\n"
    )
    return head.removesuffix(b"\r\n") + added.encode() + b"\r\n"


def _is_browser(head: bytes) -> bool:
    lines = [line.lower() for line in head.split(b"\r\n")]
    skips = any(line.startswith(b"ngrok-skip-browser-warning:") for line in lines)
    return not skips and any(line.startswith(b"user-agent: mozilla/") for line in lines)


def _page(status: int, text: bytes, code: bytes) -> bytes:
    return (
        b"HTTP/1.1 %d -\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
        b"Ngrok-Error-Code: ERR_NGROK_%b\r\nConnection: close\r\n\r\n%b"
    ) % (status, len(text), code, text)


def _not_found() -> web.Response:
    return _error(404, 100, "tunnel not found", "no tunnel has this name")


def _error(status: int, code: int, message: str, why: str) -> web.Response:
    body = {"error_code": code, "status_code": status, "msg": message, "details": {"err": why}}
    return web.json_response(body, status=status)
