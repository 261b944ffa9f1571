"""What proxies in front of the bridge say of a request, as far as they are to be believed.

Anyone can send X-Forwarded headers. They count only if the one who has connected to us is in
TRUSTED_PROXIES.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from itertools import islice
from typing import TypeAlias

from aiohttp import web

from personaplex_bridge.values import Network

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

HOST_HEADER, PROTO_HEADER = "X-Forwarded-Host", "X-Forwarded-Proto"
FOR_HEADER = "X-Forwarded-For"
_FORWARDED = (HOST_HEADER, PROTO_HEADER, FOR_HEADER, "Forwarded")

MAX_HOPS = 20
"""Entries of X-Forwarded-For that are looked at."""

UNKNOWN = "unknown"
"""The address of a peer that has none: a Unix socket's."""

_WITH_PORT = re.compile(r"\[?([0-9A-Fa-f:.]+?)\]?(?::\d{1,5})?", re.ASCII)


class Proxies:
    """The proxies and tunnels that are believed."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def host_of(self, request: web.Request) -> tuple[str, bool]:
        """The host that was asked for, and whether a proxy has forwarded the request.

        Empty without a Host header: aiohttp would look up this machine's name, and wait for it.
        """
        headers = request.headers
        own = headers.get("Host", "")
        if not self._trusts(_peer(request)) or not {HOST_HEADER, PROTO_HEADER} & set(headers):
            return own, False
        return headers.get(HOST_HEADER, own).split(",")[0].strip(), True

    def client_of(self, request: web.Request) -> str:
        """The address of whoever asks: the nearest one that is no trusted proxy."""
        client = _peer(request)
        if not self._trusts(client):
            return str(client or UNKNOWN)
        entries = ",".join(request.headers.getall(FOR_HEADER, ())).split(",")
        for entry in islice(reversed(entries), MAX_HOPS):
            address = _address(entry.strip())
            if address is None:
                break  # what is left of it was not written by a proxy that we trust
            client = address
            if not self._trusts(client):
                break
        return str(client)

    def certain_client_of(self, request: web.Request) -> Address | None:
        """The address of whoever asks; None for a Unix socket, and if the request was forwarded by
        one who doesn't tell for whom, or tells no other address than their own.
        """
        client = _address(self.client_of(request))
        was_forwarded = any(name in request.headers for name in _FORWARDED)
        return None if was_forwarded and client == _peer(request) else client

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _peer(request: web.Request) -> Address | None:
    """Who has connected to us; None for a Unix socket, or if they are gone."""
    peer = request.transport and request.transport.get_extra_info("peername")
    return _address(peer[0]) if isinstance(peer, tuple) else None


def _address(text: str) -> Address | None:
    """An address; with or without a port, as some proxies write it."""
    with_port = _WITH_PORT.fullmatch(text)
    for written in (text, with_port[1] if with_port else ""):
        try:
            address = ipaddress.ip_address(written)
        except ValueError:
            continue
        # A dual-stack socket sees 127.0.0.1 as ::ffff:127.0.0.1.
        return getattr(address, "ipv4_mapped", None) or address
    return None
