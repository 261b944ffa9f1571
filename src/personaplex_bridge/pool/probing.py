"""Asking a model server whether it is alive, without disturbing it.

A plain `GET /api/chat` touches neither its one session nor the prompts it shares between
connections; a WebSocket would (docs/protocol.md).
"""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from personaplex_bridge.errors import ModelUnavailable
from personaplex_bridge.values import CHAT_PATH, LOOPBACK_HOSTS

PROBE_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 << 10

ALIVE = frozenset({400, 426})
"""What a server that wants a WebSocket says to a plain GET: NVIDIA's (aiohttp) 400, others the
status that HTTP has for it (RFC 9110, 15.5.22).
"""


async def ask(server: str, tls: ssl.SSLContext | None, token: str | None = None) -> int:
    """The HTTP status of a plain GET. `token` is for a gate in front of the server.

    Raises:
        aiohttp.ClientError, TimeoutError: there is no answer.
    """
    status, _ = await _get(server, tls, token)
    return status


async def health(
    server: str, tls: ssl.SSLContext | None, token: str | None = None
) -> dict[str, Any] | None:
    """What a gate in front of the server says of it, at /healthz beside its /api/chat; None if
    there is no gate.

    Raises:
        aiohttp.ClientError, TimeoutError: there is no answer.
    """
    url = server.removesuffix(CHAT_PATH) + "/healthz"
    _, body = await _get(url, tls, token)
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        return None
    is_gates = isinstance(report, dict) and isinstance(report.get("status"), str)
    return report if is_gates and "uptime_s" in report else None


async def _get(server: str, tls: ssl.SSLContext | None, token: str | None) -> tuple[int, bytes]:
    parts = urlsplit(server)
    url = urlunsplit(parts._replace(scheme="https" if parts.scheme == "wss" else "http"))
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    proxied = parts.hostname not in LOOPBACK_HOSTS
    headers = {"Authorization": f"Bearer {token}"} if token else None
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=proxied, headers=headers) as http,
        http.get(url, ssl=tls if tls is not None else True, allow_redirects=False) as response,
    ):
        return response.status, await response.content.read(MAX_ANSWER_BYTES)


async def check(server: str, tls: ssl.SSLContext | None, token: str | None = None) -> None:
    """Return if the server is alive.

    Raises:
        ModelUnavailable: there is no answer, or not the right one.
    """
    try:
        status = await ask(server, tls, token)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ModelUnavailable(f"no answer from {server}: {error or 'too late'}") from error
    if status not in ALIVE:
        raise ModelUnavailable(f"{server} answers HTTP {status}")
