"""What pages of other sites have a browser do here, in its user's name: nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import aiohttp
import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.observing import Observer, Refused
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.twilio import signature
from personaplex_bridge.web.paths import STREAM_PATH, WEBHOOK_PATH
from tests.live.harness import CALL_SID, COLD, HOST, Line, bridge_to, full_line, standin

PUBLIC = "https://bridge.example.com"
TOKEN = "0123456789abcdef0123456789abcdef"
SIGNED = dataclasses.replace(COLD, public_urls=(PUBLIC,), twilio_auth_tokens=(TOKEN,))
OPTIONS = ModelOptions(prompt_ms=0)
STRANGERS = [
    "https://other.example",
    "http://localhost:1",
    "https://127.0.0.1",
    "http://bridge.example.com",
    "file://",
    "null",
    "",
]


async def webhook(line: Line, headers: Mapping[str, str], method: str = "POST") -> int:
    """The status that a call's webhook gets. A POST is signed, in case that is asked for."""
    asked = {"CallSid": CALL_SID}
    signed = {signature.HEADER: signature.sign(TOKEN, PUBLIC + WEBHOOK_PATH, asked)}
    data, params = (asked, None) if method == "POST" else (None, asked)
    async with (
        aiohttp.ClientSession() as http,
        http.request(
            method, line.webhook, data=data, params=params, headers={**signed, **headers}
        ) as answer,
    ):
        return answer.status


async def upgrade(line: Line, headers: Mapping[str, str]) -> int:
    """The status that a media socket gets."""
    url = PUBLIC.replace("https", "wss") + STREAM_PATH
    signed = {signature.HEADER: signature.sign(TOKEN, url, {})}
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(line.stream_url, headers={**signed, **headers}):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


@pytest.mark.parametrize("settings", [COLD, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("origin", STRANGERS)
async def test_another_sites_page_is_refused(origin: str, settings: Settings) -> None:
    async with full_line(OPTIONS, settings) as (line, model):
        assert await upgrade(line, {"Origin": origin}) == 403
        assert await webhook(line, {"Origin": origin}) == 403
        assert not line.pool.is_taken
        assert not model.sessions


@pytest.mark.parametrize("settings", [COLD, SIGNED], ids=["unsigned", "signed"])
async def test_twilio_and_programs_name_no_origin(settings: Settings) -> None:
    async with full_line(OPTIONS, settings) as (line, _):
        assert await webhook(line, {}) == 200
        assert await upgrade(line, {}) == 101


async def test_a_page_of_this_machines_bridge_is_ours() -> None:
    async with full_line(OPTIONS, COLD) as (line, _):
        own = {"Origin": f"http://{HOST}:{line.port}"}
        assert await webhook(line, own) == 200
        assert await upgrade(line, own) == 101


async def test_the_public_addresses_are_ours() -> None:
    async with full_line(OPTIONS, SIGNED) as (line, _):
        assert await webhook(line, {"Origin": PUBLIC}) == 200
        assert await upgrade(line, {"Origin": PUBLIC}) == 101


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)],
)
async def test_pictures_and_links_of_other_sites_call_nobody(site: str, status: int) -> None:
    async with full_line(OPTIONS, COLD) as (line, _):
        assert await webhook(line, {"Sec-Fetch-Site": site}, "GET") == status
        assert line.pool.is_taken is (status == 200)


REBOUND = "rebound.example:8080"


async def test_a_name_that_dns_leads_here_calls_nobody() -> None:
    async with full_line(OPTIONS, COLD) as (line, _):
        own = {"Host": REBOUND, "Origin": f"http://{REBOUND}"}  # the page's own, to its browser
        assert await webhook(line, own) == 403
        assert await upgrade(line, own) == 403
        forwarded = {"Host": REBOUND, "X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https"}
        for headers in ({"Host": REBOUND}, forwarded):  # a GET names no origin
            assert await webhook(line, headers, "GET") == 403
            assert await webhook(line, headers, "HEAD") == 403
        assert not line.pool.is_taken
        assert await webhook(line, {"Host": REBOUND}) == 200  # Twilio, through a tunnel
        assert line.pool.is_taken


@pytest.mark.parametrize(
    "host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "192.168.1.7:8080", "bridge.example.com"]
)
async def test_a_get_that_asks_for_this_bridge_is_served(host: str) -> None:
    settings = dataclasses.replace(COLD, public_urls=(PUBLIC,))
    async with full_line(OPTIONS, settings) as (line, _):
        assert await webhook(line, {"Host": host}, "GET") == 200


@pytest.mark.parametrize("host", ["a~.rebound.example", "a,b", "rebound.example:port", "ü"])
@pytest.mark.parametrize("public", [(), (PUBLIC,)], ids=["no PUBLIC_URL", "PUBLIC_URL"])
async def test_a_name_that_is_none_calls_nobody(host: str, public: tuple[str, ...]) -> None:
    settings = dataclasses.replace(COLD, public_urls=public)
    async with full_line(OPTIONS, settings) as (line, _):
        assert await webhook(line, {"Host": host}, "GET") == 403
        assert not line.pool.is_taken


@pytest.mark.parametrize("host", ["[::::1]", "[1.2.3.4]:80"])
async def test_a_host_that_is_no_address_is_no_error_of_ours(host: str) -> None:
    async with full_line(OPTIONS, COLD) as (line, _):
        assert await webhook(line, {"Host": host}) in (200, 400)
        assert await upgrade(line, {"Host": host, "Origin": "https://other.example"}) == 403


async def test_they_are_counted_and_limited() -> None:
    told: list[Refused] = []

    class Ear(Observer):
        def refused(self, why: Refused) -> None:
            told.append(why)

    settings = dataclasses.replace(COLD, webhook_rate=2)
    async with (
        standin(OPTIONS) as (url, _),
        bridge_to(url, settings, observers=[Ear()]) as line,
    ):
        stranger = {"Origin": "https://other.example"}
        statuses = [await upgrade(line, stranger) for _ in range(4)]
    assert statuses[0] == 403
    assert 429 in statuses
    assert told[0] is Refused.ORIGIN
    assert Refused.RATE in told
