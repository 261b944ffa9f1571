"""A running ngrok agent, asked through its local API (https://ngrok.com/docs/agent/api/).

The API has no authentication: whoever is on its machine may ask.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from personaplex_bridge.errors import TunnelError

TIMEOUT_S = 10.0
"""Making a tunnel asks ngrok's servers."""
LOOK_TIMEOUT_S = 2.0
"""Whether an agent is there at all."""

NAME = "personaplex-bridge-"
"""What the names of our tunnels begin with, so that one whose maker was killed is closed, too."""

HERE = frozenset({"localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0", ""})  # noqa: S104 - compared


@dataclass(frozen=True, slots=True)
class AgentTunnel:
    """A tunnel of an agent's. `is_ours`: made for us, and closed by us."""

    agent: NgrokAgent
    public_url: str
    uri: str
    is_ours: bool

    @property
    def told(self) -> str:
        """What kind of tunnel it is."""
        return "a tunnel of the running ngrok agent" + (", made for this" * self.is_ours)

    async def close(self) -> None:
        """Close it, if it is ours.

        Raises:
            TunnelError: the agent refuses. (With an agent that is gone, its tunnels are.)
        """
        if self.is_ours and await self.agent.is_running():
            await self.agent.stop(self.uri)


class NgrokAgent:
    """The agent with its API at `api_url` (http://host:port)."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url

    async def is_running(self) -> bool:
        """Whether one is there."""
        try:
            await self.tunnels(LOOK_TIMEOUT_S)
        except TunnelError:
            return False
        return True

    async def tunnels(self, timeout_s: float = TIMEOUT_S) -> list[Mapping[str, Any]]:
        """The open tunnels, as the agent tells them.

        Raises:
            TunnelError: nobody answers, or something that is no ngrok agent.
        """
        found = await self._ask("GET", "/api/tunnels", timeout_s=timeout_s)
        tunnels = found.get("tunnels")
        if not isinstance(tunnels, list):
            raise TunnelError(f"what answers at {self._api_url} is no ngrok agent")
        return [tunnel for tunnel in tunnels if isinstance(tunnel, dict)]

    async def tunnel_to(self, port: int) -> AgentTunnel:
        """The tunnel that leads to a port of this machine; if there is none, a new one.

        Raises:
            TunnelError: the agent refuses, or doesn't answer.
        """
        for found in await self.tunnels():
            url = str(found.get("public_url", ""))
            if url.startswith(("https://", "http://127.0.0.1:")) and _leads_to(found, port):
                is_ours = str(found.get("name", "")).startswith(NAME)
                return AgentTunnel(self, url, str(found.get("uri", "")), is_ours)
        made = await self._ask("POST", "/api/tunnels", {
            "name": NAME + secrets.token_hex(4),
            "proto": "http",
            "addr": str(port),
            "inspect": False,  # the inspector would keep callers' numbers
        })  # fmt: skip
        return AgentTunnel(self, str(made["public_url"]), str(made["uri"]), is_ours=True)

    async def stop(self, uri: str) -> None:
        """Close the tunnel that the agent knows by this URI. One that is gone is closed.

        Raises:
            TunnelError: the agent refuses, or doesn't answer.
        """
        await self._ask("DELETE", uri, allowed=(404,))

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        allowed: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(timeout_s),
                aiohttp.ClientSession() as http,
                http.request(method, self._api_url + path, json=body) as answer,
            ):
                status, text = answer.status, await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise TunnelError(f"no ngrok agent answers at {self._api_url}: {error}") from error
        if status >= 300 and status not in allowed:
            raise TunnelError(f"the ngrok agent refuses (HTTP {status}): {_why(text)}")
        return _object(text)


def _leads_to(tunnel: Mapping[str, Any], port: int) -> bool:
    """An address is written `8080`, `localhost:8080` or `http://localhost:8080`."""
    config = tunnel.get("config")
    address = str(config.get("addr", "")) if isinstance(config, dict) else ""
    host, _, number = re.sub(r"^http://", "", address).rpartition(":")
    return number == str(port) and host in HERE


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _why(text: bytes) -> str:
    """{"error_code": 103, "msg": "failed to start tunnel", "details": {"err": "…"}}"""
    error = _object(text)
    details = error.get("details")
    why = details.get("err") if isinstance(details, dict) else None
    return str(why or error.get("msg") or "without a word")[:500]
