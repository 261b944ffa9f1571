"""A bridge whose model server has a gate in front of it."""

from __future__ import annotations

import dataclasses
from contextlib import AsyncExitStack

import pytest

from personaplex_bridge import doctor
from personaplex_bridge.errors import ModelUnavailable
from personaplex_bridge.gate.condition import Failed, Loading, Stage
from personaplex_bridge.personaplex import refusals
from personaplex_bridge.personaplex.client import open_line
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool import probing
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from tests.gate.harness import SETTINGS, TOKEN, Caller, client, gate_and_model, gate_to
from tests.live.harness import COLD, HOST, bridge_to, speech, standin
from tests.logged import logged
from tests.virtual import in_virtual_time

OPTIONS = ModelOptions("repeat", prompt_ms=500, step_ms=40)
ROLE = Role("NATF2", "You enjoy having a good conversation.")
WITH_TOKEN = dataclasses.replace(COLD, personaplex_token=TOKEN)


@pytest.mark.parametrize("warm", [False, True])
def test_whole_calls_through_gate_and_bridge(warm: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        settings = dataclasses.replace(WITH_TOKEN, warm_lines=warm)
        async with (
            gate_and_model(OPTIONS) as (gate, model),
            bridge_to(gate.chat, settings) as line,
        ):
            for _ in range(3):
                report = await line.call(CallPlan("", speech()[:40_000]))
                assert report.problems == []
                record = await line.record()
                assert record.ending is not None
                assert record.ending.by == "caller"
                assert record.failures == []
            times = gate.meters.steps.times
            assert times is not None
            assert times.median_ms == pytest.approx(40, abs=1)
            assert times.keeps_up
        assert model.crowded == 0
        assert gate.meters.refused == {}
        assert all(session.eaten == 0 for session in model.sessions)

    test()


async def _why(url: str, token: str | None = None) -> str:
    with pytest.raises(ModelUnavailable) as refused:
        async with open_line(url, ROLE, token=token):
            pass
    return str(refused.value)


async def test_a_refusal_is_told_in_words() -> None:
    async with gate_and_model(OPTIONS) as (gate, _):
        assert await _why(gate.chat) == (
            f"no connection to {gate.chat}: the gate asks for a token: set PERSONAPLEX_TOKEN"
        )
        wrong = await _why(gate.chat, "wrong-token-wrong-token")
        assert wrong.endswith("the gate refuses PERSONAPLEX_TOKEN")
        async with client(gate):
            assert (await _why(gate.chat, TOKEN)).endswith("it serves another client")


async def test_a_gate_that_loads_is_told_in_words() -> None:
    async with gate_to(f"ws://{HOST}:9", is_up=False) as gate:
        why = await _why(gate.chat, TOKEN)
        assert why.endswith('it is still loading its model: "the model server doesn\'t answer yet"')


async def test_a_bare_server_takes_no_offence_at_a_token() -> None:
    async with standin(OPTIONS) as (url, _):
        async with open_line(url, ROLE, token=TOKEN) as line:
            await line.receive()
        await probing.check(url, None, TOKEN)


async def test_a_probe_shows_the_token() -> None:
    async with gate_and_model(OPTIONS) as (gate, _):
        await probing.check(gate.chat, None, TOKEN)
        with pytest.raises(ModelUnavailable, match="HTTP 401"):
            await probing.check(gate.chat, None)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "the gate asks for a token: set PERSONAPLEX_TOKEN"),
        (404, b"<html>", "it answers HTTP 404 (Not Found)"),
        (409, b"[]", "it answers HTTP 409 (Conflict)"),
        (409, b'{"error": "busy", "detail": "x"}', "it serves another client"),
        (400, b'{"error": "bad", "detail": "a\\nb"}', "it answers HTTP 400, 'bad': 'a\\nb'"),
        (400, b'{"error": 1, "detail": "x"}', "it answers HTTP 400 (Bad Request)"),
        (503, b'{"error": "failed", "detail": "no"}', "it has failed: 'no'"),
        (530, b"\xff" * 9999, "it answers HTTP 530"),
        (503, b"[" * 5000, "it answers HTTP 503 (Service Unavailable)"),
    ],
)
def test_answers_in_words(status: int, body: bytes, words: str) -> None:
    assert refusals.in_words(status, body, has_token=False) == words


async def _told(capsys: pytest.CaptureFixture[str], **environ: str) -> tuple[bool, str]:
    ailing = await doctor.examine({"PORT": "0", **environ})
    return ailing, capsys.readouterr().out


async def test_the_doctor_asks_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    async with AsyncExitStack() as stack:
        gate, _ = await stack.enter_async_context(gate_and_model(OPTIONS))
        url = gate.chat
        ailing, output = await _told(capsys, PERSONAPLEX_URL=url)
        assert ailing
        assert "asks for a token\n      -> set PERSONAPLEX_TOKEN" in output
        ailing, output = await _told(capsys, PERSONAPLEX_URL=url, PERSONAPLEX_TOKEN="x" * 16)
        assert ailing
        assert "the gate refuses PERSONAPLEX_TOKEN" in output
        assert "x" * 16 not in output
        good = {"PERSONAPLEX_URL": url, "PERSONAPLEX_TOKEN": TOKEN}
        ailing, output = await _told(capsys, **good)
        assert not ailing, output
        assert f"model server: {url}: a gate, idle; no step measured yet" in output
        async with client(gate) as connection:
            caller = Caller(connection)
            await caller.shake_hands()
            await caller.talk(5, pace_s=0)
            ailing, output = await _told(capsys, **good)
        assert "a gate, busy; a step takes " in output
        for _ in range(200):
            gate.meters.steps.add(0.1)
        ailing, output = await _told(capsys, **good)
        assert ailing
        assert "the GPU is too slow" in output


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (Loading(Stage.DOWNLOADING, 3_200_000_000), "loading ('downloading the weights: 3.2 of"),
        (Failed("out of luck"), "failed ('out of luck')"),
    ],
)
async def test_the_doctor_tells_of_a_model_that_is_not_up(
    state: Loading | Failed, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with gate_to(f"ws://{HOST}:9", is_up=False) as gate:
        gate.condition.state = state
        ailing, output = await _told(
            capsys, PERSONAPLEX_URL=gate.chat, PERSONAPLEX_TOKEN=SETTINGS.tokens[0]
        )
    assert ailing
    assert f"a gate, {found}" in output


async def test_the_doctor_warns_of_a_token_in_plain_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = "ws://203.0.113.1.nip.invalid:8998"
    with logged():
        _, output = await _told(capsys, PERSONAPLEX_URL=url, PERSONAPLEX_TOKEN=TOKEN)
    assert f"MEND  PERSONAPLEX_TOKEN: goes to {url}/api/chat in plain text" in output
