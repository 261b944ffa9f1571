"""The client of Twilio's REST API, against its stand-in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from personaplex_bridge.errors import ConfigError, TwilioError
from personaplex_bridge.numbers import rest as rest_module
from personaplex_bridge.numbers.rest import TwilioRest, open_rest
from personaplex_bridge.numbers.settings import (
    AccountSettings,
    check_complete,
    read_account_settings,
)
from personaplex_bridge.web.hosting import hosted
from tests.dev.scene import BEFORE, HOST, NUMBER, OTHER_NUMBER, town

Asks = Callable[[TwilioRest], Awaitable[object]]
ASKS: list[Asks] = [
    lambda rest: rest.account(),
    lambda rest: rest.numbers(),
    lambda rest: rest.number("PN" + "0" * 32),
    lambda rest: rest.route("PN" + "0" * 32, {"voice_url": "https://x.example/"}),
]
SECRET = "0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def _someone(
    handler: Callable[[web.Request], Awaitable[web.Response]],
) -> AsyncIterator[AccountSettings]:
    """Something that isn't Twilio, and settings that lead to it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with hosted(app, HOST, 0) as port:
        yield AccountSettings("AC" + "0" * 32, (SECRET,), api_url=f"http://{HOST}:{port}")


async def test_the_account(tmp_path: Path) -> None:
    async with town(tmp_path, kind="Trial") as place, place.rest() as rest:
        info = await rest.account()
    assert (info.sid, info.status, info.is_trial) == (place.twilio.account_sid, "active", True)


async def test_numbers_come_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_module, "PAGE_SIZE", 2)
    all_numbers = [f"+1555010{number}" for number in range(5)]
    async with town(tmp_path, *all_numbers) as place, place.rest() as rest:
        found = await rest.numbers()
        pages = len(place.twilio.asked)
    assert [each.number for each in found] == all_numbers
    assert pages == 3


async def test_a_number_by_itself(tmp_path: Path) -> None:
    async with town(tmp_path, NUMBER, NUMBER + "0") as place, place.rest() as rest:
        [found] = await rest.numbers(NUMBER)
        assert found == await rest.number(found.sid)
        assert await rest.numbers("+15550199") == []
    assert found.number == NUMBER, "not one that only begins so"
    assert found.takes_calls
    assert (found.routing.voice_url, found.routing.trunk_sid) == (BEFORE, "")


async def test_routing_is_set_and_taken_out(tmp_path: Path) -> None:
    async with town(tmp_path) as place, place.rest() as rest:
        [number] = await rest.numbers()
        app = "AP" + "1" * 32
        changed = await rest.route(number.sid, {"voice_application_sid": app})
        assert changed.routing.told == f"the TwiML app {app}"
        url = "https://bridge.example.com/voice/inbound?persona=noir"
        changed = await rest.route(number.sid, {"voice_application_sid": "", "voice_url": url})
        assert changed.routing.told == url
        assert changed == await rest.number(number.sid)


@pytest.mark.parametrize("asks", ASKS)
async def test_wrong_credentials(asks: Asks, tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        account = replace(place.account, auth_tokens=(SECRET,))
        async with open_rest(account) as rest:
            with pytest.raises(TwilioError) as refused:
                await asks(rest)
    assert (refused.value.status, refused.value.code) == (401, 20003)
    assert "https://www.twilio.com/docs/errors/20003" in str(refused.value)
    assert SECRET not in str(refused.value)


async def test_an_api_key_will_do(tmp_path: Path) -> None:
    key = "SK" + "5" * 32
    async with town(tmp_path, api_keys={key: SECRET}) as place:
        account = replace(place.account, auth_tokens=(), api_key=key, api_secret=SECRET)
        async with open_rest(account) as rest:
            assert (await rest.account()).sid == place.twilio.account_sid


@pytest.mark.parametrize("asks", ASKS[2:])
async def test_a_number_that_is_not_there(asks: Asks, tmp_path: Path) -> None:
    async with town(tmp_path) as place, place.rest() as rest:
        with pytest.raises(TwilioError, match="no such number") as refused:
            await asks(rest)
    assert (refused.value.status, refused.value.code) == (404, 20404)


async def test_a_url_that_twilio_refuses(tmp_path: Path) -> None:
    async with town(tmp_path) as place, place.rest() as rest:
        [number] = await rest.numbers()
        with pytest.raises(TwilioError) as refused:
            await rest.route(number.sid, {"voice_url": "nonsense"})
    assert (refused.value.status, refused.value.code) == (400, 21402)


async def test_too_many_requests_are_asked_again(tmp_path: Path) -> None:
    async with town(tmp_path, too_many=2, retry_after_s=0) as place, place.rest() as rest:
        assert len(await rest.numbers()) == 1
        assert len(place.twilio.asked) == 3


@pytest.mark.parametrize("asks", ASKS)
async def test_too_many_requests_for_long(asks: Asks, tmp_path: Path) -> None:
    async with town(tmp_path, too_many=99, retry_after_s=0) as place, place.rest() as rest:
        with pytest.raises(TwilioError, match="too many requests") as refused:
            await asks(rest)
        assert len(place.twilio.asked) == rest_module.ATTEMPTS
    assert (refused.value.status, refused.value.code) == (429, 20429)


async def test_a_wait_that_is_asked_for_has_a_bound() -> None:
    from twilio.http.response import Response

    for asked, waits_s in {"3": 3.0, "86400": 10.0, "soon": 1.0, "": 1.0}.items():
        response = Response(429, "", {"Retry-After": asked})
        assert rest_module._wait_s(response) == waits_s


@pytest.mark.parametrize("asks", ASKS)
async def test_nobody_there(asks: Asks) -> None:
    nowhere = AccountSettings("AC" + "0" * 32, (SECRET,), api_url=f"http://{HOST}:9")
    async with open_rest(nowhere) as rest:
        with pytest.raises(TwilioError, match=r"no answer from 127\.0\.0\.1:9") as refused:
            await asks(rest)
    assert refused.value.status is None


async def test_somebody_who_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_module, "TIMEOUT_S", 0.1)

    over = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with _someone(hang) as account, open_rest(account) as rest:
        with pytest.raises(TwilioError, match="no answer"):
            await rest.account()
        over.set()


@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.parametrize("answer", ["", "<html>", "[]", "{}", '{"incoming_phone_numbers": [1]}'])
async def test_somebody_who_makes_no_sense(asks: Asks, answer: str) -> None:
    async def talk(_request: web.Request) -> web.Response:
        return web.Response(text=answer)

    async with _someone(talk) as account, open_rest(account) as rest:
        with pytest.raises(TwilioError, match="makes no sense"):
            await asks(rest)


@pytest.mark.parametrize("status", [302, 500, 503])
async def test_somebody_who_fails(status: int) -> None:
    async def fail(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=f"sorry, {NUMBER}")

    async with _someone(fail) as account, open_rest(account) as rest:
        with pytest.raises(TwilioError, match=f"HTTP {status}") as refused:
            await rest.numbers(NUMBER)
    assert NUMBER not in str(refused.value)


async def test_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with town(tmp_path, NUMBER, OTHER_NUMBER) as place, place.rest() as rest:
            [found] = await rest.numbers(NUMBER)
    assert NUMBER.removeprefix("+") not in caplog.text
    assert place.twilio.auth_token not in caplog.text
    assert NUMBER not in repr(found)
    assert place.twilio.auth_token not in repr(place.account)


async def test_the_package_reads_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_REGION", "ie1")
    monkeypatch.setenv("TWILIO_EDGE", "dublin")
    async with town(tmp_path) as place, place.rest() as rest:
        assert (await rest.account()).status == "active"


def test_settings_are_read() -> None:
    sid = "AC" + "0" * 32
    environ = {"TWILIO_ACCOUNT_SID": sid, "TWILIO_AUTH_TOKEN": "new, old"}
    assert read_account_settings(environ).credentials == (sid, "new")
    key = {"TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "x"}
    settings = read_account_settings({**environ, **key})
    assert settings.credentials == ("SK1", "x")
    assert set(settings.secrets) == {"new", "old", "x"}
    with pytest.raises(ConfigError, match="TWILIO_API_URL='ftp://x' is not allowed: https"):
        read_account_settings({"TWILIO_API_URL": "ftp://x"})


@pytest.mark.parametrize(
    ("environ", "signs", "missing"),
    [
        ({}, False, ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"]),
        ({"TWILIO_ACCOUNT_SID": "AC" + "0" * 32}, False, ["TWILIO_AUTH_TOKEN"]),
        ({"TWILIO_AUTH_TOKEN": "x"}, True, ["TWILIO_ACCOUNT_SID"]),
        (
            {
                "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
                "TWILIO_API_KEY": "SK1",
                "TWILIO_API_SECRET": "x",
            },
            True,
            ["TWILIO_AUTH_TOKEN"],
        ),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], signs: bool, missing: list[str]) -> None:
    with pytest.raises(ConfigError) as told:
        check_complete(read_account_settings(environ), signs=signs)
    assert [wrong.variable for wrong in told.value.wrong] == missing
