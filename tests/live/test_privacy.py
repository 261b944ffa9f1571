"""What is private stays out of the log: a whole signed call, with failures in it, at INFO."""

from __future__ import annotations

import asyncio
import dataclasses
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge.config import Settings
from personaplex_bridge.logs import Redacting
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator.caller import CallFailed, CallPlan, PhoneCall
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.route import Route
from personaplex_bridge.twilio import signature
from tests.attacks import scene
from tests.live.harness import CLOCK, HOST, Line, Voice, bridge_to, full_line, raw_model, speech
from tests.logged import logged
from tests.virtual import in_virtual_time

PUBLIC = "https://bridge.example.com"
TOKENS = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210")
CALLER, CALLED = "+15550177", "+15550188"
PROMPT = "You work for Harbour Inn and enjoy marzipan."
KEYS = "7391542"
SETTINGS = Settings(
    public_urls=(PUBLIC,),
    twilio_auth_tokens=TOKENS,
    warm_lines=False,
    leases_url="redis://:pa55word@redis.example",
)
QUERY = urlencode({"persona": "noir", "voice": "VARM1", "text_prompt": PROMPT})


def plan(line: Line) -> CallPlan:
    return CallPlan(
        f"{PUBLIC}/voice/inbound?{QUERY}",
        speech()[: 8000 * 3],
        caller=CALLER,
        called=CALLED,
        auth_token=TOKENS[1],
        keys=tuple((0.5, key) for key in KEYS),
        hang_up_after_s=8.0,
        route=Route(tunnel=f"{HOST}:{line.port}"),
    )


async def _trouble(line: Line) -> None:
    """Everything that makes a line in the log, with private things in it."""
    with pytest.raises(CallFailed, match="403"):
        await PhoneCall(dataclasses.replace(plan(line), auth_token="wrong"), CLOCK).run()
    form = {"CallSid": "CA1", "From": CALLER, "To": CALLED, "Digits": KEYS}
    async with aiohttp.ClientSession() as http:
        for persona in (CALLER, quote(CALLER), "nobody"):
            url = f"/voice/inbound?persona={persona}&voice=nobody&text_prompt={'x' * 600}"
            signed = signature.sign(TOKENS[0], PUBLIC + url, form)
            where = f"http://{HOST}:{line.port}{url}"
            async with http.post(where, data=form, headers={signature.HEADER: signed}) as answer:
                assert answer.status == 200
    attacked = scene.Scene(line, None)  # type: ignore[arg-type]  # it is not looked at
    url = "wss://bridge.example.com/voice/stream"
    upgrade = scene.upgrade((signature.HEADER, signature.sign(TOKENS[0], url, {})))
    for message in (
        scene.start({"token": "once_" + "x" * 43, "text_prompt": PROMPT}),
        f'{{"event": "mystery", "From": "{CALLER}", "text_prompt": "{PROMPT}"}}',
    ):
        async with attacked.socket(upgrade) as socket:
            socket.send(*[message] * 102)
            await socket.close_code()
        await line.record()


def _private(record: CallRecord) -> list[str]:
    words = {word.text for word in record.words if len(word.text) > 5}
    assert words
    assert record.keys == KEYS
    return [*TOKENS, "pa55word", CALLER, CALLED, "marzipan", PROMPT[:12], KEYS, "once_", *words]


@in_virtual_time
async def test_a_call_with_everything_in_it() -> None:
    with logged() as log:
        async with full_line(ModelOptions("repeat", prompt_ms=300), SETTINGS) as (line, model):
            await _trouble(line)
            await asyncio.sleep(16.0)  # the lines of webhooks without streams are free again
            report = await PhoneCall(plan(line), CLOCK).run()
            record = await line.record()
            assert model.sessions[-1].text_prompt == PROMPT
    assert report.problems == []
    text = log.getvalue()
    assert "refused a webhook from 198.51.100.7: its signature is wrong" in text
    assert "refused: unknown one-time token" in text
    assert "call begins: 'CA" in text
    assert "the caller hung up" in text
    shown = text.replace(f"persona '{CALLER}'", "")  # see below
    assert [private for private in _private(record) if private in shown] == []
    assert "Traceback" not in text


@in_virtual_time
async def test_what_was_asked_for_by_mistake_is_left_out_by_the_formatter() -> None:
    """A number where a persona should be is quoted in a warning."""
    with logged(Redacting(SETTINGS.secrets)) as log:
        async with full_line(ModelOptions("silence", prompt_ms=0), SETTINGS) as (line, _):
            await _trouble(line)
    assert "no persona ' (number)'" in log.getvalue(), "a plus is a space in a URL"
    assert "no persona '(number)'" in log.getvalue()
    assert CALLER.removeprefix("+") not in log.getvalue()


@in_virtual_time
async def test_a_model_that_dies_in_a_call() -> None:
    """And again: the next one is told in its prompt what was said (RECAP)."""

    async def dies(connection: ServerConnection) -> None:
        voice = Voice()
        await connection.send(b"\x00")
        await connection.send(b"\x02 marzipan")
        for header in voice.headers:
            await connection.send(b"\x01" + header)
        await connection.send(b"\x01" + voice.page())
        await asyncio.sleep(0.5)
        await connection.close(1011, "out of memory")

    settings = dataclasses.replace(SETTINGS, recap=True)
    with logged() as log:
        async with raw_model(dies) as url, bridge_to(url, settings) as line:
            await PhoneCall(plan(line), CLOCK).run()
            record = await line.record()
    assert {word.text for word in record.words} == {"marzipan"}
    for private in (*TOKENS, CALLER, CALLED, "marzipan", PROMPT[:12], "once_"):
        assert private not in log.getvalue()
