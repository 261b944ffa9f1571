"""The phone's routes over real sockets: who may, what is asked for, what is told."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from personaplex_bridge.personaplex.voices import VOICES
from personaplex_bridge.phone.routes import CALLS_PATH, OPTIONS_PATH, PAGE_PATH, STATIC_PATH
from personaplex_bridge.twilio import inbound
from tests.live.harness import until
from tests.phone.scene import SETTINGS, SIGNED, said, site, socket_of, start

TOKEN = "a-token-of-the-tests"
PUBLIC = "https://bridge.example.com"


async def test_the_page_and_its_files_bring_a_strict_policy() -> None:
    async with site() as here:
        for path, kind in ((PAGE_PATH, "text/html"), (f"{STATIC_PATH}/line.js", "text/javascript")):
            status, headers, text = await here.ask("GET", path, origin=None)
            assert status == 200
            assert headers["Content-Type"].startswith(kind)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert text
            again = {"If-None-Match": headers["ETag"]}
            assert (await here.ask("GET", path, headers=again, origin=None))[0] == 304
        _, _, page = await here.ask("GET", PAGE_PATH, origin=None)
        assert "style=" not in page
        assert "//" not in page.replace("http://www.w3.org", "").replace("<!doctype html>", "")
        assert (await here.ask("GET", f"{STATIC_PATH}/..%2frouter.py"))[0] == 404


async def test_with_a_console_token_nobody_else_gets_in() -> None:
    async with site(dataclasses.replace(SIGNED, console_token=TOKEN)) as here:
        refused = [
            await here.ask("GET", OPTIONS_PATH),
            await here.ask("GET", f"{STATIC_PATH}/phone.js"),
            await here.ask("POST", CALLS_PATH),
            await here.ask("DELETE", f"{CALLS_PATH}/CA1"),
            await here.ask("GET", f"{CALLS_PATH}/CA1/events"),
        ]
        assert [status for status, _, _ in refused] == [401] * 5
        visit = {"Accept": "text/html"}
        assert (await here.ask("GET", PAGE_PATH, headers=visit, origin=None))[0] == 303
        shown = {"Authorization": f"Bearer {TOKEN}"}
        assert (await here.ask("GET", OPTIONS_PATH, headers=shown))[0] == 200
        assert (await here.ask("POST", CALLS_PATH, headers=shown))[0] == 201


async def test_without_one_only_this_machine_does() -> None:
    async with site() as here:
        tunnel = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        assert (await here.ask("GET", PAGE_PATH, headers=tunnel, origin=None))[0] == 403
        assert (await here.ask("POST", CALLS_PATH, origin="https://other.example"))[0] == 403
        assert (await here.ask("POST", CALLS_PATH, origin=None))[0] == 403
        assert (await here.ask("POST", CALLS_PATH, headers={"Host": "other.example"}))[0] == 403


async def test_the_choices() -> None:
    async with site() as here:
        options = json.loads((await here.ask("GET", OPTIONS_PATH))[2])
        assert options["default"] == "assistant"
        assert set(options["voices"]) == VOICES
        assert "assistant" in [persona["name"] for persona in options["personas"]]
        assert options["notice"] is None


async def test_who_is_recorded_is_told(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, recording=True, recordings_folder=tmp_path)
    async with site(settings) as here:
        options = json.loads((await here.ask("GET", OPTIONS_PATH))[2])
        assert options["notice"] == "This call is recorded."


async def test_a_call_is_described() -> None:
    async with site() as here:
        granted = await here.grant(persona="noir", voice="VARM1", text_prompt="You enjoy tests.")
        assert granted["stream_url"] == here.base.replace("http", "ws") + "/voice/stream"
        assert granted["parameters"].pop("token").startswith("once_")
        assert granted["parameters"] == {
            "persona": "noir",
            "voice": "VARM1",
            "text_prompt": "You enjoy tests.",
        }
        assert granted["format"]["encoding"] == "audio/x-mulaw"


async def test_behind_a_public_url_both_addresses_work() -> None:
    settings = dataclasses.replace(SIGNED, console_token=TOKEN, public_urls=(PUBLIC,))
    shown = {"Authorization": f"Bearer {TOKEN}"}
    async with site(settings) as here:
        status, _, text = await here.ask("POST", CALLS_PATH, headers=shown, origin=PUBLIC)
        assert (status, json.loads(text)["stream_url"]) == (
            201,
            "wss://bridge.example.com/voice/stream",
        )
        await here.ask("DELETE", f"{CALLS_PATH}/{json.loads(text)['call_sid']}", headers=shown)
        text = (await here.ask("POST", CALLS_PATH, headers=shown))[2]
        assert json.loads(text)["stream_url"].startswith(here.base.replace("http", "ws"))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"persona": "nobody"}', 422, "there are: assistant"),
        (b'{"voice": "NATX9"}', 422, "NATF0"),
        (json.dumps({"text_prompt": "x" * 490}).encode(), 422, "490 characters"),
        (b'{"text_prompt": 5}', 422, "must be a string"),
        (b'{"seed": "5"}', 422, "unknown field 'seed'"),
        (b"[]", 422, "object"),
        (b"{", 400, "no JSON"),
        (b"[" * 5000, 400, "no JSON"),
    ],
)
async def test_what_can_not_be_is_said(body: bytes, status: int, says: str) -> None:
    async with site() as here:
        answered, headers, text = await here.ask("POST", CALLS_PATH, raw=body)
        assert answered == status
        assert headers["Content-Type"].startswith("application/problem+json")
        assert says in json.loads(text)["detail"]
        assert not here.bridge.pool.is_taken


async def test_a_body_of_another_type_is_refused() -> None:
    async with site() as here:
        form = {"Content-Type": "text/plain"}
        assert (await here.ask("POST", CALLS_PATH, raw=b"{}", headers=form))[0] == 415


async def test_who_comes_when_all_are_busy_is_told_so() -> None:
    async with site() as here:
        granted = await here.grant()
        status, headers, text = await here.ask("POST", CALLS_PATH)
        assert status == 503
        assert headers["Retry-After"] == "5"
        assert "try again" in json.loads(text)["detail"]
        # Who gives up before the media socket is open frees the place.
        assert (await here.ask("DELETE", f"{CALLS_PATH}/{granted['call_sid']}"))[0] == 204
        await here.grant()
        assert (await here.ask("DELETE", f"{CALLS_PATH}/CA{'0' * 32}"))[0] == 404


async def test_who_comes_when_the_bridge_is_drained_is_told_so() -> None:
    async with site() as here:
        await here.bridge.end_calls()
        status, _, text = await here.ask("POST", CALLS_PATH)
        assert status == 503
        assert "shut down" in json.loads(text)["detail"]


async def test_what_happens_in_a_call_is_told() -> None:
    async with site(dataclasses.replace(SETTINGS, barge_in=False)) as here:
        granted = await here.grant()
        url = f"{here.base}{CALLS_PATH}/{granted['call_sid']}/events"
        async with (
            aiohttp.ClientSession() as http,
            socket_of(here, granted) as socket,
            http.get(url, headers={"Origin": here.base}) as answer,
        ):
            assert answer.content_type == "text/event-stream"
            await socket.send_str(start(granted))
            assert (await here.record()).caller == "browser"
            said = asyncio.create_task(_say(socket, granted["stream_sid"], granted["call_sid"]))
            events = [event async for event in _events(answer)]
            await said
        names = [name for name, _ in events]
        assert names[0] in ("ready", "figures")
        assert "ready" in names
        words = [word["text"] for name, data in events if name == "words" for word in data]
        assert " ".join(words).startswith("You spoke for")
        assert names[-2:] == ["figures", "over"]
        assert events[-2][1]["turns"] == 1
        assert 0 < events[-2][1]["reply_ms"] < 5000
        assert events[-1][1] == {
            "by": "caller",
            "kind": "hung_up",
            "reason": "the caller hung up",
        }


async def test_events_of_strange_calls_are_not_told() -> None:
    async with site() as here:
        for sid in (f"CA{'0' * 32}", "x", "..%2f"):
            assert (await here.ask("GET", f"{CALLS_PATH}/{sid}/events"))[0] == 404


async def test_a_watcher_of_what_never_begins_may_leave() -> None:
    async with site() as here:
        granted = await here.grant()
        url = f"{here.base}{CALLS_PATH}/{granted['call_sid']}/events"
        async with aiohttp.ClientSession() as http, http.get(url, headers={"Origin": here.base}):
            tasks = len(asyncio.all_tasks())
        await until(lambda: len(asyncio.all_tasks()) < tasks)


async def test_a_watcher_who_leaves_takes_nothing_along() -> None:
    async with site() as here:
        granted = await here.grant()
        url = f"{here.base}{CALLS_PATH}/{granted['call_sid']}/events"
        async with socket_of(here, granted) as socket:
            await socket.send_str(start(granted))
            await here.record()
            async with (
                aiohttp.ClientSession() as http,
                http.get(url, headers={"Origin": here.base}) as answer,
            ):
                await answer.content.readline()
            assert len(here.bridge.records) == 1
        await until(lambda: not here.bridge.records)


async def _say(socket: aiohttp.ClientWebSocketResponse, stream_sid: str, call_sid: str) -> None:
    """A second of speech, silence until it has been repeated, and the end."""
    frames = [said(1.0)[at : at + 160] for at in range(0, 8000, 160)]
    for number, payload in enumerate([*frames, *[b"\xff" * 160] * 200]):
        media = inbound.Media(stream_sid, number + 2, number + 1, number * 20, payload)
        await socket.send_str(inbound.serialize(media))
        await asyncio.sleep(0.02)
    await socket.send_str(inbound.serialize(inbound.Stop(stream_sid, 999, call_sid, "AC0")))


async def _events(answer: aiohttp.ClientResponse) -> Any:
    name = ""
    async for line in answer.content:
        field, _, value = line.decode().strip().partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
