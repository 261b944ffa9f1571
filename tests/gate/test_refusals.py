"""Who and what is refused, before the upgrade, with a status and a reason."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import aiohttp
import pytest

from personaplex_bridge.personaplex.voices import MAX_ENCODED_PROMPT_BYTES
from personaplex_bridge.simulator.model import ModelOptions
from tests.gate.harness import (
    AUTHORIZED,
    GOOD,
    OLD_TOKEN,
    PROMPT,
    SETTINGS,
    TOKEN,
    Caller,
    Query,
    client,
    gate_and_model,
    gate_to,
    get,
    refused,
)
from tests.live.harness import HOST
from tests.logged import logged
from tests.virtual import in_virtual_time

QUICK = ModelOptions("tone", prompt_ms=100, step_ms=0)
VOICE, TEXT = GOOD


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}, {OLD_TOKEN}",
        "Bearer \u00fc\u00fc\u00fc",
        TOKEN,
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/healthz", "/", "/metrics", "/api/chat/"])
async def test_a_bad_token_is_refused_on_every_route(header: str | None, path: str) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with gate_and_model(QUICK) as (gate, model):
        status, body = await get(gate.base + path, **headers)
        if path == "/healthz" and header is None:
            assert (status, body["status"]) == (200, "idle")
            assert set(body) == {"status", "uptime_s"}, "the rest is for those with the token"
        else:
            assert (status, body["error"]) == (401, "unauthorized")
            assert ("missing" in body["detail"]) == (header is None)
            status, _ = await refused(gate, additional_headers=headers)
            assert status == 401
    assert not model.sessions


@pytest.mark.parametrize("token", [TOKEN, OLD_TOKEN])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_any_of_the_tokens_lets_in(token: str, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {token}"}
    async with (
        gate_and_model(QUICK) as (gate, _),
        client(gate, additional_headers=headers) as connection,
    ):
        assert await connection.recv() == b"\x00"


async def test_with_a_token_an_unknown_route_is_not_found() -> None:
    async with (
        gate_and_model(QUICK) as (gate, _),
        aiohttp.ClientSession() as http,
        http.get(gate.base + "/metrics", headers=AUTHORIZED) as answer,
    ):
        assert answer.status == 404


async def test_a_plain_get_is_answered_as_by_the_bare_server() -> None:
    async with gate_and_model(QUICK) as (gate, model):
        url = gate.base + "/api/chat"
        assert (await get(url, **AUTHORIZED))[0] == 400
        async with client(gate):
            assert (await get(url, **AUTHORIZED))[0] == 400, "also while it is busy"
        assert gate.meters.refused == {}, "a probe is no refusal"
    assert len(model.sessions) == 1


WRONG: list[tuple[Query, str]] = [
    ([], "voice_prompt is missing"),
    ([TEXT], "voice_prompt is missing"),
    ([VOICE], "text_prompt is missing"),
    ([VOICE, VOICE, TEXT], "voice_prompt is there 2 times"),
    ([VOICE, TEXT, TEXT], "text_prompt is there 2 times"),
    ([*GOOD, ("seed", "1")], "'seed' is not allowed"),
    ([*GOOD, ("seed", "")], "'seed' is not allowed"),
    ([*GOOD, ("temperature", "1")], "'temperature' is not allowed"),
    ([("voice_prompt", "NATF2"), TEXT], "no plain name that ends in .pt"),
    ([("voice_prompt", ""), TEXT], "no plain name"),
    ([("voice_prompt", ".pt"), TEXT], "no plain name"),
    ([("voice_prompt", "../voices/NATF2.pt"), TEXT], "no plain name"),
    ([("voice_prompt", "..\\NATF2.pt"), TEXT], "no plain name"),
    ([("voice_prompt", "/etc/passwd.pt"), TEXT], "no plain name"),
    ([("voice_prompt", "NATF2.pt\n"), TEXT], "no plain name"),
    ([("voice_prompt", "NATF2\0.pt"), TEXT], "no plain name"),
    ([("voice_prompt", "%2e%2e%2fNATF2.pt"), TEXT], "no plain name"),
    ([("voice_prompt", "NOPE9.pt"), TEXT], "no voice that the model has"),
    ([VOICE, ("text_prompt", "")], "text_prompt is empty"),
    ([VOICE, ("text_prompt", " \t")], "text_prompt is empty"),
    ([VOICE, ("text_prompt", "x" * (MAX_ENCODED_PROMPT_BYTES + 1))], "URL-encoded"),
    ([VOICE, ("text_prompt", "\u00fc" * (MAX_ENCODED_PROMPT_BYTES // 6 + 1))], "URL-encoded"),
]


@pytest.mark.parametrize(("query", "why"), WRONG)
async def test_what_the_model_would_die_of_is_refused(query: Query, why: str) -> None:
    async with gate_and_model(QUICK) as (gate, model):
        status, body = await refused(gate, query)
        assert (status, body["error"]) == (400, "bad_request")
        assert why in body["detail"]
        assert gate.meters.refused == {"bad_request": 1}
    assert not model.sessions


async def test_raw_bytes_in_the_query_are_refused() -> None:
    async with gate_and_model(QUICK) as (gate, model):
        reader, writer = await asyncio.open_connection(HOST, gate.port)
        writer.write(
            b"GET /api/chat?voice_prompt=NATF2.pt&text_prompt=\xff\xfe HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert not model.sessions


async def test_the_longest_prompt_reaches_the_model_as_it_is() -> None:
    prompt = "x" * MAX_ENCODED_PROMPT_BYTES
    async with gate_and_model(QUICK) as (gate, model):
        async with client(gate, [("text_prompt", prompt), VOICE]) as connection:
            assert await connection.recv() == b"\x00"
        assert model.sessions[0].used == ("NATF2.pt", prompt)


async def test_a_prompt_with_all_kinds_of_characters_reaches_the_model_as_it_is() -> None:
    prompt = '50 % + 1 & more = d\u00e9j\u00e0 vu; #1? "yes"\n<b>/\\ %41 \u3042 \U0001f600'
    async with gate_and_model(QUICK) as (gate, model):
        async with client(gate, [VOICE, ("text_prompt", prompt)]) as connection:
            assert await connection.recv() == b"\x00"
        assert model.sessions[0].used == ("NATF2.pt", prompt)


async def test_voices_are_looked_up_on_the_disk_for_each_request(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, voices_dir=tmp_path)
    async with gate_and_model(QUICK, settings) as (gate, _):
        assert (await refused(gate))[0] == 400
        (tmp_path / "NATF2.pt").touch()
        async with client(gate) as connection:
            assert await connection.recv() == b"\x00"
        (tmp_path / "OTHER.pt").mkdir()
        assert (await refused(gate, [("voice_prompt", "OTHER.pt"), TEXT]))[0] == 400


async def test_voices_are_looked_up_in_the_models_snapshot(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, hf_home=tmp_path)
    folder = tmp_path / "hub/models--nvidia--personaplex-7b-v1/snapshots/abc/voices"
    async with gate_and_model(QUICK, settings) as (gate, _):
        async with client(gate) as connection:  # not unpacked yet: the published names count
            assert await connection.recv() == b"\x00"
        folder.mkdir(parents=True)
        assert (await refused(gate))[0] == 400
        (folder / "NATF2.pt").touch()
        async with client(gate) as connection:
            assert await connection.recv() == b"\x00"


@in_virtual_time
async def test_a_second_client_is_refused_and_the_first_call_hears_no_difference() -> None:
    async def call(*, intrude: bool) -> list[bytes]:
        options = ModelOptions("repeat", prompt_ms=1000, step_ms=50)
        async with gate_and_model(options) as (gate, model):
            async with client(gate) as connection:
                caller = Caller(connection)
                if intrude:
                    await _intrude(gate)
                await caller.shake_hands()
                await caller.talk(10)
                if intrude:
                    await _intrude(gate)
                await caller.talk(10, tone=b"\x12")
            await gate.until_free()
            assert model.crowded == 0
            assert len(model.sessions) == 1
            assert model.sessions[0].used == ("NATF2.pt", PROMPT)
        return caller.heard

    async def _intrude(gate) -> None:  # type: ignore[no-untyped-def]
        other = [("voice_prompt", "VARM3.pt"), ("text_prompt", "You are somebody else.")]
        status, body = await refused(gate, other)
        assert (status, body["error"]) == (409, "busy")
        assert "another client" in body["detail"]

    undisturbed, disturbed = await call(intrude=False), await call(intrude=True)
    assert len(undisturbed) == 22
    assert disturbed == undisturbed


async def test_no_model_is_loading_and_refuses_with_retry_after() -> None:
    async with gate_to(f"ws://{HOST}:9", is_up=False) as gate:
        status, body = await refused(gate)
        assert (status, body["error"]) == (503, "loading")
        url = gate.base + "/api/chat"
        async with aiohttp.ClientSession() as http, http.get(url, headers=AUTHORIZED) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "5"
        status, body = await gate.health()
        assert (status, body["status"]) == (503, "loading")
        status, body = await gate.health(**AUTHORIZED)
        assert body["stage"] == "starting"
        assert body["refused"] == {"loading": 2}


async def test_nothing_private_is_logged() -> None:
    with logged() as log:
        async with gate_and_model(QUICK) as (gate, _):
            await refused(gate, additional_headers={"Authorization": "Bearer wrong-token-0000"})
            await refused(gate, [*GOOD, ("seed", "1")])
            async with client(gate) as connection:
                await connection.recv()
                await refused(gate)
            await gate.until_free()
    text = log.getvalue()
    for line in ("call began (voice NATF2)", "refused: busy", "refused: unauthorized"):
        assert line in text
    assert "client left" in text
    assert not [word for word in (PROMPT, "conversation", TOKEN, "wrong-token") if word in text]
