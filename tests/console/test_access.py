"""Who gets in, over real sockets: with the token, with a session, from where."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from personaplex_bridge.config import Settings
from personaplex_bridge.console.access import GUESS_EVERY_S, GUESSES, LOGIN_PATH, ConsoleAccess
from personaplex_bridge.console.cookies import COOKIE, LIFETIME_S
from personaplex_bridge.web.hosting import hosted
from tests.clocks import HandClock

TOKEN = "a token of the tests".replace(" ", "-")
OPEN, LOCKED = Settings(), Settings(console_token=TOKEN)


@dataclass
class Door:
    """A page behind the guard, and its two clocks."""

    port: int
    clock: HandClock
    wall_s: float = 1_800_000_000.0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def knock(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        path: str = "/api/calls",
        data: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the answer; redirects are not followed."""
        jar = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(cookie_jar=jar) as http,
            http.request(
                method, self.base + path, headers=headers, data=data, allow_redirects=False
            ) as answer,
        ):
            return answer.status, answer.headers

    async def log_in(self, token: str = TOKEN, origin: str | None = None) -> tuple[int, str]:
        """Status, and the cookie that was set."""
        headers = {"Origin": origin or self.base}
        status, answered = await self.knock(
            headers, method="POST", path=LOGIN_PATH, data={"token": token}
        )
        return status, answered.get("Set-Cookie", "")


@asynccontextmanager
async def door(settings: Settings) -> AsyncIterator[Door]:
    at = Door(0, HandClock())
    access = ConsoleAccess(settings, at.clock, lambda: at.wall_s)

    async def tell(request: web.Request) -> web.Response:
        access.check(request)
        return web.Response(text="in")

    async def log_in(request: web.Request) -> web.Response:
        return access.log_in(request, str((await request.post())["token"]))

    async def log_out(request: web.Request) -> web.Response:
        return access.log_out(request)

    app = web.Application()
    app.router.add_route("*", "/api/calls", tell)
    app.router.add_get("/page", tell)
    app.router.add_get("/api/docs", tell)
    app.router.add_post(LOGIN_PATH, log_in)
    app.router.add_post("/console/logout", log_out)
    async with hosted(app, "127.0.0.1", 0) as at.port:
        yield at


def cookie_of(set_cookie: str) -> dict[str, str]:
    return {"Cookie": set_cookie.partition(";")[0]}


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_the_token_opens_for_programs() -> None:
    async with door(LOCKED) as at:
        assert (await at.knock(bearer()))[0] == 200
        assert (await at.knock(bearer(), method="POST"))[0] == 200
        status, headers = await at.knock()
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert headers["Content-Type"] == "application/problem+json; charset=utf-8"
        assert (await at.knock({"Authorization": f"Basic {TOKEN}"}))[0] == 401


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü" * 20])
async def test_another_token_does_not(wrong: str) -> None:
    async with door(LOCKED) as at:
        assert (await at.knock(bearer(wrong)))[0] == 401
        assert (await at.log_in(wrong)) == (403, "")


async def test_guesses_are_few_and_the_right_token_has_to_wait_too() -> None:
    async with door(LOCKED) as at:
        for _ in range(GUESSES):
            assert (await at.log_in("x" * 16))[0] == 403
        status, headers = await at.knock(bearer("y" * 16))
        assert (status, headers["Retry-After"]) == (429, str(int(GUESS_EVERY_S)))
        assert (await at.log_in())[0] == 429
        at.clock.at_s += GUESS_EVERY_S
        assert (await at.log_in())[0] == 303
        assert (await at.knock(bearer()))[0] == 200


async def test_a_session_opens_until_it_runs_out() -> None:
    async with door(LOCKED) as at:
        status, set_cookie = await at.log_in()
        assert status == 303
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(set_cookie.split("; "))
        assert "Secure" not in set_cookie, "a browser that came by http would drop it"
        assert TOKEN not in set_cookie
        session = cookie_of(set_cookie)
        assert (await at.knock(session))[0] == 200
        at.wall_s += LIFETIME_S + 1
        assert (await at.knock(session))[0] == 401


async def test_a_session_by_https_is_for_https_alone() -> None:
    settings = dataclasses.replace(LOCKED, public_urls=("https://bridge.example.com",))
    async with door(settings) as at:
        status, set_cookie = await at.log_in(origin="https://bridge.example.com")
        assert status == 303
        assert "; Secure" in set_cookie


async def test_a_session_outlives_the_bridge_but_not_its_token() -> None:
    async with door(LOCKED) as at:
        _, set_cookie = await at.log_in()
    async with door(LOCKED) as at:
        assert (await at.knock(cookie_of(set_cookie)))[0] == 200
    async with door(Settings(console_token="another" * 3)) as at:
        assert (await at.knock(cookie_of(set_cookie)))[0] == 401


async def test_who_logs_out_is_out() -> None:
    async with door(LOCKED) as at:
        session = cookie_of((await at.log_in())[1])
        status, headers = await at.knock(
            session | {"Origin": at.base}, method="POST", path="/console/logout"
        )
        assert status == 303
        assert f'{COOKIE}=""' in headers["Set-Cookie"]
        assert (await at.knock(session))[0] == 401


@pytest.mark.parametrize("change", ["1", "", ".x"])
async def test_a_cookie_can_not_be_made_up(change: str) -> None:
    async with door(LOCKED) as at:
        cookie = cookie_of((await at.log_in())[1])["Cookie"].partition("=")[2]
        forged = {
            "1": "9" + cookie[1:],
            "": cookie.rpartition(".")[0],
            ".x": cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        }[change]
        assert (await at.knock({"Cookie": f"{COOKIE}={forged}"}))[0] == 401


async def test_people_are_sent_to_log_in() -> None:
    async with door(LOCKED) as at:
        status, headers = await at.knock({"Accept": "text/html,*/*"}, path="/page?a=b")
        assert (status, headers["Location"]) == (303, "/console/login?next=/page?a%3Db")


@pytest.mark.parametrize("settings", [OPEN, LOCKED], ids=["open", "locked"])
@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Origin": "https://evil.example"}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
        ("GET", {"Origin": "https://evil.example"}),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}),
    ],
)
async def test_other_sites_do_nothing_in_a_visitors_name(
    settings: Settings, method: str, headers: dict[str, str]
) -> None:
    async with door(settings) as at:
        session = cookie_of((await at.log_in())[1]) if settings is LOCKED else {}
        assert (await at.knock(session | headers, method=method))[0] == 403
        own = {"Origin": at.base, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        assert (await at.knock(session | own, method=method))[0] == 200


@pytest.mark.parametrize("settings", [OPEN, LOCKED], ids=["open", "locked"])
async def test_links_of_other_sites_lead_to_pages_alone(settings: Settings) -> None:
    link = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
    async with door(settings) as at:
        session = cookie_of((await at.log_in())[1]) if settings is LOCKED else {}
        for site in ("cross-site", "same-site"):
            headers = session | link | {"Sec-Fetch-Site": site}
            assert (await at.knock(headers, path="/api/calls"))[0] == 403
            assert (await at.knock(headers, path="/page"))[0] == 200
            assert (await at.knock(headers, path="/api/docs"))[0] == 200
        for site in ("none", "same-origin"):
            headers = session | link | {"Sec-Fetch-Site": site}
            assert (await at.knock(headers, path="/api/calls"))[0] == 200


async def test_other_sites_do_not_log_in() -> None:
    async with door(LOCKED) as at:
        assert (await at.log_in(origin="https://evil.example"))[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"x-forwarded-proto": "https"},
        {"Forwarded": "for=203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"CF-Connecting-IP": "203.0.113.7"},
        {"Host": "bridge.example.com"},
        {"Host": "[::1"},
        {"Host": "127.0.0.1.evil.example:8080"},
    ],
)
async def test_without_a_token_a_tunnel_leads_nowhere(headers: dict[str, str]) -> None:
    async with door(OPEN) as at:
        assert (await at.knock())[0] == 200
        assert (await at.knock({"Host": f"localhost:{at.port}"}))[0] == 200
        assert (await at.knock(headers))[0] == 403


def test_without_a_token_no_network_has_a_console() -> None:
    assert not ConsoleAccess(Settings(host="0.0.0.0")).is_there
    assert ConsoleAccess(Settings(host="0.0.0.0", console_token=TOKEN)).is_there
    assert ConsoleAccess(Settings()).is_there
    assert TOKEN not in repr(LOCKED)
    assert TOKEN in LOCKED.secrets
