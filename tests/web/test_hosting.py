"""Connections: one request each, bounded while strangers', and errors in few words."""

from __future__ import annotations

import asyncio
import resource

import pytest
from aiohttp import web

from personaplex_bridge.web import hosting
from personaplex_bridge.web.hosting import allow_connections, hosted, vouch_for
from tests.attacks.raw import ask, connected, request
from tests.live.harness import HOST
from tests.virtual import in_virtual_time

GET = request("GET", "/", [("Host", "a.example"), ("Connection", "keep-alive")])


def app(handler: object = None) -> web.Application:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello\n")

    made = web.Application()
    made.router.add_get("/", handler or hello)  # type: ignore[arg-type]
    return made


@in_virtual_time
async def test_a_connection_carries_one_request() -> None:
    async with hosted(app(), HOST, 0) as port:
        answer = await ask(port, GET + GET)
    assert str(answer) == "200 hello"
    assert answer.raw.count(b"HTTP/1.1") == 1
    assert answer.header("Connection") == "close"
    assert answer.header("Server") == "personaplex-bridge"


@in_virtual_time
async def test_an_error_of_ours_is_told_in_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_request: web.Request) -> web.Response:
        raise RuntimeError("the inside")

    async with hosted(app(fails), HOST, 0) as port:
        answer = await ask(port, GET)
    assert answer.status == 500
    assert "inside" not in answer.body
    assert "RuntimeError: the inside" in caplog.text


@in_virtual_time
async def test_what_is_no_http_is_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with hosted(app(), HOST, 0) as port:
        assert str(await ask(port, b"\x16\x03\x01\r\n\r\n")) == "400 bad request"
    assert not caplog.records


@in_virtual_time
async def test_the_oldest_stranger_goes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosting, "MAX_STRANGERS", 3)
    known = asyncio.Event()

    async def waits(request_: web.Request) -> web.Response:
        vouch_for(request_)
        await known.wait()
        return web.Response(text="hello\n")

    async with hosted(app(waits), HOST, 0) as port, connected(port) as friend:
        friend.send(GET)
        await asyncio.sleep(0.1)
        for _ in range(2):
            async with (
                connected(port) as first,
                connected(port) as second,
                connected(port) as third,
                connected(port) as fourth,
                connected(port),
            ):
                await asyncio.sleep(0.1)
                assert first.reader.at_eof() or first.reader.exception()
                assert second.reader.at_eof() or second.reader.exception()
                assert not third.reader.at_eof()
                assert not fourth.reader.at_eof()
            await asyncio.sleep(0.1)
        known.set()
        assert str(await friend.answer()) == "200 hello"
    told = [line for line in caplog.messages if "more than 3 strangers" in line]
    assert len(told) == 2, "once each time"


@pytest.mark.parametrize(
    ("limits", "expected", "warned"),
    [
        ((1024, 1_048_576), (2100, 1_048_576), False),
        ((256, resource.RLIM_INFINITY), (2100, resource.RLIM_INFINITY), False),
        ((1024, 2000), (2000, 2000), True),
        ((4096, 4096), None, False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
    ],
)
def test_as_many_connections_as_are_wanted(
    limits: tuple[int, int],
    expected: tuple[int, int] | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, values: made.append(values))
    allow_connections(2000)
    assert made == ([expected] if expected else [])
    assert bool(caplog.records) == warned
