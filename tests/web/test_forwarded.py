"""X-Forwarded headers: who is believed."""

from __future__ import annotations

import ipaddress
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from personaplex_bridge.config import Settings
from personaplex_bridge.values import network
from personaplex_bridge.web.forwarded import Proxies

PROXIES = Proxies([network("127.0.0.0/8"), network("10.0.0.0/8"), network("fd00::/8")])
Peer = tuple[str, int] | tuple[str, int, int, int] | str | None


def client(peer: Peer, *forwarded_for: str) -> str:
    return PROXIES.client_of(request(peer, *[("X-Forwarded-For", one) for one in forwarded_for]))


def request(peer: Peer, *headers: tuple[str, str]) -> web.Request:
    transport = Mock()
    transport.get_extra_info = lambda name: peer if name == "peername" else None
    named = CIMultiDict([("Host", "own.example"), *headers])
    return make_mocked_request("GET", "/", named, transport=transport)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        (("192.0.2.1", 4), [], "192.0.2.1"),
        (("192.0.2.1", 4), ["198.51.100.9"], "192.0.2.1"),
        (("10.1.2.3", 4), ["198.51.100.9"], "198.51.100.9"),
        (("10.1.2.3", 4), ["1.1.1.1, 198.51.100.9"], "198.51.100.9"),
        (("10.1.2.3", 4), ["1.1.1.1", "198.51.100.9"], "198.51.100.9"),
        (("10.1.2.3", 4), ["198.51.100.9, 10.9.9.9, 127.0.0.1"], "198.51.100.9"),
        (("10.1.2.3", 4), ["10.9.9.9, 127.0.0.1"], "10.9.9.9"),
        (("10.1.2.3", 4), ["198.51.100.9, rubbish"], "10.1.2.3"),
        (("10.1.2.3", 4), ["198.51.100.9, rubbish, 127.0.0.1"], "127.0.0.1"),
        (("10.1.2.3", 4), ["198.51.100.9:5678"], "198.51.100.9"),
        (("10.1.2.3", 4), ["[2001:db8::1]:5678"], "2001:db8::1"),
        (("10.1.2.3", 4), [""], "10.1.2.3"),
        (("10.1.2.3", 4), [], "10.1.2.3"),
        (("10.1.2.3", 4), [", ".join(["127.0.0.1"] * 5000)], "127.0.0.1"),
        (("::ffff:10.1.2.3", 4, 0, 0), ["198.51.100.9"], "198.51.100.9"),
        (("fd00::1", 4, 0, 0), ["::ffff:198.51.100.9"], "198.51.100.9"),
        (("2001:db8::1", 4, 0, 0), ["198.51.100.9"], "2001:db8::1"),
        ("/run/bridge.sock", ["198.51.100.9"], "unknown"),
        ("", ["198.51.100.9"], "unknown"),
        (None, ["198.51.100.9"], "unknown"),
    ],
)
def test_the_client(peer: Peer, forwarded_for: list[str], expected: str) -> None:
    assert client(peer, *forwarded_for) == expected


@given(st.text(alphabet="0123456789abcdef.:[], x", max_size=200))
def test_any_text_gives_an_address(forwarded_for: str) -> None:
    ipaddress.ip_address(client(("127.0.0.1", 4), forwarded_for))


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("127.0.0.1", {"X-Forwarded-Host": "a.example"}, ("a.example", True)),
        ("127.0.0.1", {"X-Forwarded-Host": "a.example, b"}, ("a.example", True)),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, ("own.example", True)),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, ("own.example", False)),
        ("127.0.0.1", {}, ("own.example", False)),
        ("192.0.2.1", {"X-Forwarded-Host": "a.example"}, ("own.example", False)),
    ],
)
def test_the_host(peer: str, headers: dict[str, str], expected: tuple[str, bool]) -> None:
    assert PROXIES.host_of(request((peer, 4), *headers.items())) == expected


def test_what_is_trusted_unless_told() -> None:
    proxies = Proxies(Settings().trusted_proxies)
    told = ("X-Forwarded-For", "192.0.2.1")
    assert proxies.client_of(request(("127.0.0.1", 4), told)) == "192.0.2.1"
    assert proxies.client_of(request(("::1", 4, 0, 0), told)) == "192.0.2.1"
    assert proxies.client_of(request(("10.0.0.1", 4), told)) == "10.0.0.1"
