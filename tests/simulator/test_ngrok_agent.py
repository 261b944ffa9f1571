"""The ngrok agent's stand-in: its API, and what its tunnels do with connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from personaplex_bridge.simulator.ngrok_agent import NgrokAgentStandin
from personaplex_bridge.web.hosting import hosted

HOST = "127.0.0.1"
GOOD = {"name": "bridge", "proto": "http", "addr": "8080", "inspect": False}


class Client:
    def __init__(self, agent: NgrokAgentStandin, base: str) -> None:
        self.agent = agent
        self.base = base

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.base + path, **options) as answer,
        ):
            return answer.status, await answer.json() if answer.status != 204 else None


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    agent = NgrokAgentStandin()
    async with hosted(agent.application(), HOST, 0) as port:
        yield Client(agent, f"http://{HOST}:{port}")


async def test_a_tunnel_is_made_told_and_stopped(client: Client) -> None:
    status, made = await client.ask("POST", "/api/tunnels", json=GOOD)
    assert status == 201
    assert (made["name"], made["uri"]) == ("bridge", "/api/tunnels/bridge")
    assert made["config"] == {"addr": "http://localhost:8080", "inspect": False}
    assert await client.ask("GET", made["uri"]) == (200, made)
    _, listed = await client.ask("GET", "/api/tunnels")
    assert listed == {"tunnels": [made], "uri": "/api/tunnels"}
    assert (await client.ask("DELETE", made["uri"]))[0] == 204
    status, body = await client.ask("DELETE", made["uri"])
    assert (status, body["error_code"]) == (404, 100)
    assert (await client.ask("GET", made["uri"]))[0] == 404
    assert client.agent.tunnels == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": ""}, "a tunnel needs a name"),
        ({"name": None}, "a tunnel needs a name"),
        ({"proto": "tcp"}, "proto http only"),
        ({"addr": "example.com:80"}, "no port of this machine"),
        ({"inspect": "no"}, "inspect is true or false"),
        ({"colour": "green"}, "field colour not found"),
    ],
)
async def test_a_definition_that_is_wrong(client: Client, change: dict[str, Any], why: str) -> None:
    status, body = await client.ask("POST", "/api/tunnels", json={**GOOD, **change})
    assert (status, body["error_code"], body["status_code"]) == (400, 102, 400)
    assert why in body["details"]["err"]
    assert client.agent.tunnels == []


async def test_a_name_that_is_taken(client: Client) -> None:
    await client.ask("POST", "/api/tunnels", json=GOOD)
    status, body = await client.ask("POST", "/api/tunnels", json=GOOD)
    assert status == 400
    assert body["details"]["err"] == 'tunnel "bridge" already exists'


async def test_no_more_than_an_account_may_have(client: Client) -> None:
    statuses = [
        (await client.ask("POST", "/api/tunnels", json={**GOOD, "name": name}))[0]
        for name in "abcd"
    ]
    assert statuses == [201, 201, 201, 502]


async def test_only_json_is_taken(client: Client) -> None:
    assert (await client.ask("POST", "/api/tunnels", data=GOOD["name"]))[0] == 415
    headers = {"Content-Type": "application/json"}
    assert (await client.ask("POST", "/api/tunnels", data="{", headers=headers))[0] == 400
    assert (await client.ask("POST", "/api/tunnels", json=[1]))[0] == 400


async def _show(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade") != "websocket":
        return web.json_response(dict(request.headers))
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def test_requests_and_sockets_go_through(client: Client) -> None:
    app = web.Application()
    app.router.add_get("/", _show)
    async with hosted(app, HOST, 0) as port:
        url = await client.agent.open(str(port), "web")
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as answer:
                seen = await answer.json()
            async with http.ws_connect(url) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "hello"
            browser = {"User-Agent": "Mozilla/5.0"}
            async with http.get(url, headers=browser) as answer:
                assert answer.headers["Ngrok-Error-Code"] == "ERR_NGROK_6024"
            skipping = {**browser, "ngrok-skip-browser-warning": "1"}
            async with http.get(url, headers=skipping) as answer:
                assert answer.content_type == "application/json"
    host = url.removeprefix("http://")
    assert (seen["Host"], seen["X-Forwarded-Host"]) == (host, host)
    assert seen["X-Forwarded-Proto"] == "https"
    assert seen["X-Forwarded-For"] == "198.51.100.7"


async def test_nobody_behind_a_tunnel(client: Client) -> None:
    url = await client.agent.open("9", "web")
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert (answer.status, answer.headers["Ngrok-Error-Code"]) == (502, "ERR_NGROK_8012")
