"""Asking a model server whether it is alive, without disturbing it.

A plain `GET /api/chat` touches neither its one session nor the prompts it shares between
connections; a WebSocket would (docs/protocol.md).
"""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from personaplex_bridge.errors import ModelUnavailable
from personaplex_bridge.values import LOOPBACK_HOSTS

PROBE_TIMEOUT_S = 5.0

ALIVE = frozenset({400, 426})
"""What a server that wants a WebSocket says to a plain GET: NVIDIA's (aiohttp) 400, others the
status that HTTP has for it (RFC 9110, 15.5.22).
"""


async def ask(server: str, tls: ssl.SSLContext | None) -> int:
    """The HTTP status of a plain GET.

    Raises:
        aiohttp.ClientError, TimeoutError: there is no answer.
    """
    parts = urlsplit(server)
    url = urlunsplit(parts._replace(scheme="https" if parts.scheme == "wss" else "http"))
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    proxied = parts.hostname not in LOOPBACK_HOSTS
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=proxied) as http,
        http.get(url, ssl=tls if tls is not None else True, allow_redirects=False) as response,
    ):
        return response.status


async def check(server: str, tls: ssl.SSLContext | None) -> None:
    """Return if the server is alive.

    Raises:
        ModelUnavailable: there is no answer, or not the right one.
    """
    try:
        status = await ask(server, tls)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ModelUnavailable(f"no answer from {server}: {error or 'too late'}") from error
    if status not in ALIVE:
        raise ModelUnavailable(f"{server} answers HTTP {status}")
