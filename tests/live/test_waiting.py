"""When all are busy, and when the model fails: what the caller hears, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool.leases import FORGOTTEN_S
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.report import Doing, PhoneReport
from personaplex_bridge.twilio import signature
from personaplex_bridge.web.paths import (
    AFTER_PATH,
    FORWARDED_PATH,
    QUEUED_PATH,
    RECORDED_PATH,
    WAIT_PATH,
)
from tests.live.harness import (
    CLOCK,
    HOST,
    Line,
    bridge_to,
    full_line,
    raw_model,
    raw_twilio,
    standin,
    stop,
)
from tests.virtual import in_virtual_time

QUIET = ModelOptions("tone", prompt_ms=300)
QUEUE = Settings(warm_lines=False)
DESK = "+15550199"
SORRY, AGAIN, GREETING = QUEUE.sorry_words, QUEUE.again_words, QUEUE.voicemail_words
TALK_S = 20.0
PLAN = CallPlan("", b"", hang_up_after_s=TALK_S)
LONGEST_S = 11.0
"""What a caller hears before it is looked again for a server: words (10.4 s) or music (5 s)."""
HOLD_S = LONGEST_S + 1.0
"""How long a server may wait for its next caller."""


def place(position: int) -> str:
    return QUEUE.busy_words.replace("{position}", str(position))


def streamed_at(report: PhoneReport) -> list[float]:
    return [moment.at_s for moment in report.moments if moment.doing is Doing.STREAMS]


def doings(report: PhoneReport) -> list[str]:
    return [moment.doing.value for moment in report.moments]


async def calls(line: Line, number: int, *plans: CallPlan, apart_s: float = 1.0) -> Any:
    """So many callers, one after the other; those without a plan of their own have `PLAN`."""
    tasks = []
    for index in range(number):
        plan = plans[index] if index < len(plans) else PLAN
        tasks.append(asyncio.create_task(line.call(plan)))
        await asyncio.sleep(apart_s)
    return await asyncio.gather(*tasks)


@in_virtual_time
async def test_three_callers_of_one_server_are_connected_in_order() -> None:
    async with full_line(QUIET, QUEUE) as (line, model):
        began_s = CLOCK.now()
        first, second, third = await calls(line, 3)
    assert (first.held_s, first.said_by_twilio, first.of(Doing.PLAYS)) == (None, [], [])
    assert second.said_by_twilio[0] == place(1)
    assert third.said_by_twilio[0] == place(2)
    assert third.said_by_twilio.index(place(1)) > 0, "told when moved up"
    for report in (second, third):
        assert len(report.of(Doing.PLAYS)) >= 2
        assert report.dead_air_s <= 1.0
        assert report.queue_results == ["leave"]
        assert report.outcome == "the caller hung up"
        assert report.problems == []
        assert len(report.heard) / 8000 == pytest.approx(TALK_S, abs=0.1)
        assert report.first_sound_s is not None
    starts = [1.0 * place + streamed_at(report)[0] for place, report in enumerate((second, third))]
    assert TALK_S - 2 < starts[0] < TALK_S + HOLD_S
    assert starts[0] + TALK_S < starts[1] + 1 < starts[0] + TALK_S + HOLD_S
    assert CLOCK.now() - began_s < 3 * (TALK_S + HOLD_S)
    assert (len(model.sessions), model.crowded) == (3, 0)


@in_virtual_time
async def test_music_goes_on_where_it_was() -> None:
    plans = [dataclasses.replace(PLAN, hang_up_after_s=90.0)]
    async with full_line(QUIET, QUEUE) as (line, _):
        _, second = await calls(line, 2, *plans)
    pieces = [int(url.rsplit("/", 1)[1].removesuffix(".wav")) for url in second.of(Doing.PLAYS)]
    assert pieces == [number % 8 for number in range(len(pieces))]
    assert len(pieces) > 8
    # Told at first and once a minute.
    assert second.said_by_twilio == [place(1)] * 2
    assert second.dead_air_s <= 1.0


@in_virtual_time
async def test_the_line_has_an_end() -> None:
    settings = dataclasses.replace(QUEUE, queue_limit=1)
    async with full_line(QUIET, settings) as (line, _):
        first, second, third = await calls(line, 3)
    assert (first.outcome, second.outcome) == ("the caller hung up", "the caller hung up")
    assert third.outcome == "rejected: busy"
    assert third.moments == []


@pytest.mark.parametrize(
    ("fallback", "said", "then"),
    [
        ("hangup", [SORRY], []),
        ("forward", [SORRY], ["dials"]),
        ("voicemail", [SORRY, GREETING], ["records"]),
    ],
)
@in_virtual_time
async def test_nobody_waits_for_ever(fallback: Any, said: list[str], then: list[str]) -> None:
    settings = dataclasses.replace(QUEUE, queue_timeout_s=30.0, fallback=fallback, forward_to=DESK)
    long = dataclasses.replace(PLAN, hang_up_after_s=80.0)
    async with full_line(QUIET, settings) as (line, _):
        first, second, third = await calls(line, 3, long, PLAN, PLAN, apart_s=10.0)
    assert first.outcome == "the caller hung up"
    for report in (second, third):
        assert report.queue_results == ["leave"]
        assert report.held_s is not None
        assert 30.0 <= report.held_s <= 30.0 + 11.0
        assert report.said_by_twilio[-len(said) :] == said
        assert doings(report)[-len(then) - len(said) :] == ["says"] * len(said) + then
        assert report.outcome.endswith("hung up by TwiML")
        assert report.dead_air_s <= 1.0
    assert second.of(Doing.DIALS) == ([DESK] if then == ["dials"] else [])


@in_virtual_time
async def test_who_hangs_up_leaves_the_line() -> None:
    long = dataclasses.replace(PLAN, hang_up_after_s=60.0)
    leaves = dataclasses.replace(PLAN, faults=CallFaults(hang_up_holding_s=15.0))
    async with full_line(QUIET, QUEUE) as (line, model):
        _, second, third = await calls(line, 3, long, leaves)
    assert second.outcome == "the caller hung up while holding"
    assert second.queue_results == ["hangup"]
    assert third.said_by_twilio[:2] == [place(2), place(1)]
    told_at_s = next(m.at_s for m in third.moments if m.what == place(1))
    assert told_at_s < 60 - 20, "as soon as the other has gone"
    assert third.outcome == "the caller hung up"
    assert len(model.sessions) == 2


@in_virtual_time
async def test_a_server_reserved_for_a_caller_who_hangs_up_is_the_nexts_at_once() -> None:
    async with full_line(QUIET, QUEUE) as (line, _), aiohttp.ClientSession() as http:
        async with raw_twilio(line) as peer:
            await asyncio.sleep(0.1)
            for call in ("CA1", "CA2"):
                assert "<Enqueue" in await post(http, line, "/voice/inbound", CallSid=call)
            await peer.send(stop())
            await line.record()
        assert "<Leave" in await post(http, line, WAIT_PATH, CallSid="CA1")
        assert "number 1" not in await post(http, line, WAIT_PATH, CallSid="CA9"), "behind"
        gone = await post(http, line, QUEUED_PATH, CallSid="CA1", QueueResult="hangup")
        assert gone.endswith("<Response><Hangup /></Response>")
        assert "<Leave" in await post(http, line, WAIT_PATH, CallSid="CA2")
        await asyncio.sleep(16.0)  # its stream never comes either


@in_virtual_time
async def test_who_asks_no_more_is_forgotten() -> None:
    async with (
        full_line(QUIET, QUEUE) as (line, _),
        aiohttp.ClientSession() as http,
        raw_twilio(line) as peer,
    ):
        speaking = asyncio.create_task(_speak_on(peer))
        await asyncio.sleep(0.1)
        for call, position in (("CA1", 1), ("CA2", 2)):
            assert "<Enqueue" in await post(http, line, "/voice/inbound", CallSid=call)
            said = await post(http, line, WAIT_PATH, CallSid=call)
            assert f"number {position} in line" in said
        began_s = CLOCK.now()
        while "number 1 in line" not in said:
            await asyncio.sleep(5.0)
            said = await post(http, line, WAIT_PATH, CallSid="CA2")
        assert CLOCK.now() - began_s == pytest.approx(FORGOTTEN_S, abs=5.0)
        speaking.cancel()
        await peer.send(stop())
        await line.record()


async def _speak_on(peer: Any) -> None:
    with contextlib.suppress(ConnectionError):
        await peer.speak(100_000)


async def post(http: aiohttp.ClientSession, line: Line, path: str, **form: str) -> str:
    """A webhook of a test's own; what it answers."""
    async with http.post(f"http://{HOST}:{line.port}{path}", data=form) as response:
        assert response.status == 200
        return await response.text()


@asynccontextmanager
async def servers(number: int) -> AsyncIterator[tuple[list[str], list[ModelServer]]]:
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(standin(QUIET)) for _ in range(number)]
        yield [url for url, _ in pairs], [model for _, model in pairs]


@in_virtual_time
async def test_twenty_callers_of_three_servers_are_connected_in_order() -> None:
    async with servers(3) as (urls, models), bridge_to(urls, QUEUE) as line:
        reports = await calls(line, 20, apart_s=0.5)
    assert [report.outcome for report in reports] == ["the caller hung up"] * 20
    starts = [0.5 * index + streamed_at(report)[0] for index, report in enumerate(reports)]
    # With two servers free, the second in line may be the first to ask, and takes one of them.
    for start_s, later in zip(starts, (starts[n:] for n in range(1, 21)), strict=True):
        assert all(start_s < other_s + LONGEST_S for other_s in later)
    assert all(report.dead_air_s <= 1.0 for report in reports)
    assert all(report.problems == [] for report in reports)
    # Of 17 who held, each waits for at most six conversations, and what those before them held up
    # the servers.
    held_s = [report.held_s for report in reports if report.held_s is not None]
    assert len(held_s) == 17
    assert max(held_s) < 6 * (TALK_S + HOLD_S)
    for report in reports[3:]:
        places = [int(said.split("number ")[1].split()[0]) for said in report.said_by_twilio]
        assert places == sorted(places, reverse=True)
        assert all(before > after for before, after in pairwise(places[:3]))
    assert sum(len(model.sessions) for model in models) == 20
    assert all(model.crowded == 0 for model in models)


@in_virtual_time
async def test_the_persona_survives_the_queue() -> None:
    prompt = "You enjoy <tea> & scones? 100 % déjà vu."
    query = f"?persona=noir&voice=VARM1&text_prompt={quote(prompt)}"
    async with full_line(QUIET, QUEUE) as (line, model):
        first = asyncio.create_task(line.call(PLAN))
        await asyncio.sleep(1.0)
        plan = dataclasses.replace(PLAN, webhook_url=line.webhook + query)
        held = await PhoneCall(plan, CLOCK, line.account).run()
        await first
        assistant = (await line.record()).persona
        noir = (await line.record()).persona
    assert held.held_s is not None
    assert (assistant, noir) == ("assistant", "noir")
    assert model.sessions[0].text_prompt == load_catalogue().get("assistant").role.text_prompt
    assert model.sessions[1].used == ("VARM1.pt", prompt)


@pytest.mark.parametrize(
    ("when_busy", "did", "said", "outcome"),
    [
        ("reject", [], [], "rejected: busy"),
        ("forward", ["dials"], [], "forwarded (completed), then hung up by TwiML"),
        (
            "voicemail",
            ["says", "records"],
            [GREETING],
            "left a message of 5 s, then hung up by TwiML",
        ),
    ],
)
@in_virtual_time
async def test_no_queue(when_busy: Any, did: list[str], said: list[str], outcome: str) -> None:
    settings = dataclasses.replace(QUEUE, when_busy=when_busy, forward_to=DESK)
    async with full_line(QUIET, settings) as (line, _):
        first, second = await calls(line, 2)
    assert first.outcome == "the caller hung up"
    assert (doings(second), second.said_by_twilio) == (did, said)
    assert second.outcome == outcome
    assert second.problems == []


@pytest.mark.parametrize("status", ["no-answer", "busy", "failed"])
@pytest.mark.parametrize("fallback", ["hangup", "forward", "voicemail"])
@in_virtual_time
async def test_nobody_answers_where_a_call_is_forwarded_to(status: str, fallback: Any) -> None:
    settings = dataclasses.replace(
        QUEUE, when_busy="forward", fallback=fallback, forward_to="sip:desk@host.example"
    )
    plan = dataclasses.replace(PLAN, faults=CallFaults(dial_status=status))
    async with full_line(QUIET, settings) as (line, _):
        _, second = await calls(line, 2, PLAN, plan)
    assert second.of(Doing.DIALS) == ["sip:desk@host.example"], "once"
    voicemail = fallback == "voicemail"
    assert second.said_by_twilio == ([SORRY, GREETING] if voicemail else [SORRY])
    assert ("records" in doings(second)) == voicemail
    assert second.outcome.endswith("hung up by TwiML")


FALLBACKS = pytest.mark.parametrize(
    ("fallback", "did"),
    [
        ("hangup", ["says"]),
        ("forward", ["says", "dials"]),
        ("voicemail", ["says", "says", "records"]),
    ],
)


@FALLBACKS
@in_virtual_time
async def test_every_server_is_down(fallback: Any, did: list[str]) -> None:
    """Nobody is left without a word, neither the first, who finds it out, nor those after."""
    settings = dataclasses.replace(QUEUE, fallback=fallback, forward_to=DESK)
    async with bridge_to(f"ws://{HOST}:9/api/chat", settings) as line:
        reports = await calls(line, 6, apart_s=2.0)
    for report in reports:
        assert [doing for doing in doings(report) if doing != "streams"] == did
        assert report.said_by_twilio[0] == SORRY
        assert report.outcome.endswith("hung up by TwiML")
        assert report.dead_air_s <= 1.0
    assert streamed_at(reports[0]) != []
    assert streamed_at(reports[3]) == [], "known from the start"


@in_virtual_time
async def test_servers_that_go_down_while_callers_hold() -> None:
    """Those who hold are told, and don't hold in vain."""
    async with contextlib.AsyncExitStack() as stack:
        url, _ = await stack.enter_async_context(standin(QUIET))
        async with bridge_to(url, QUEUE) as line:
            making = asyncio.create_task(calls(line, 3))
            await asyncio.sleep(10.0)
            await stack.aclose()
            reports = await making
    for report in reports:
        assert report.said_by_twilio[-1] == SORRY
        assert report.outcome.endswith("hung up by TwiML")
        assert report.moments[-1].end_s < 10 + 2 * HOLD_S


@FALLBACKS
@in_virtual_time
async def test_the_model_dies_in_the_call(fallback: Any, did: list[str]) -> None:
    async def dies(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        await asyncio.sleep(3.0)
        connection.transport.abort()

    settings = dataclasses.replace(QUEUE, fallback=fallback, forward_to=DESK)
    async with raw_model(dies) as url, bridge_to(url, settings) as line:
        report = await line.call(PLAN)
    assert doings(report) == ["streams", *did]
    assert report.said_by_twilio[0] == SORRY
    assert report.close_code == 1011
    assert report.dead_air_s <= 1.0
    assert report.outcome.endswith("hung up by TwiML")


@in_virtual_time
async def test_a_stream_that_came_too_fast_is_not_left_without_a_word() -> None:
    """Its call was let in: somebody is there, whom a stalled network may have put in this place."""
    async with full_line(QUIET, QUEUE) as (line, _), aiohttp.ClientSession() as http:
        async with raw_twilio(line, call_sid="CA1") as peer:
            await peer.burst(1000)
            assert await peer.close_code() == 1008
        assert SORRY in await post(http, line, AFTER_PATH, CallSid="CA1")


@in_virtual_time
async def test_after_a_stream_in_order_nothing_is_said() -> None:
    async with full_line(QUIET, QUEUE) as (line, _), aiohttp.ClientSession() as http:
        report = await line.call(PLAN)
        await line.record()
        after = await post(http, line, AFTER_PATH, CallSid=report.call_sid)
    assert after.endswith("<Response><Hangup /></Response>")


@in_virtual_time
async def test_a_bridge_that_shuts_down_asks_to_call_again() -> None:
    async with full_line(QUIET, QUEUE) as (line, _):
        call = asyncio.create_task(line.call(PLAN))
        await asyncio.sleep(5.0)
        began_s = CLOCK.now()
        await line.bridge.say_goodbye()
        assert CLOCK.now() - began_s < 0.2
        report = await call
    assert report.close_code == 1001
    assert report.said_by_twilio == [AGAIN]
    assert report.outcome.endswith("hung up by TwiML")


@pytest.mark.parametrize(
    ("path", "form", "answer"),
    [
        (AFTER_PATH, {"CallSid": "CA8"}, SORRY),
        (AFTER_PATH, {}, SORRY),
        (QUEUED_PATH, {"CallSid": "CA8", "QueueResult": "error"}, SORRY),
        (QUEUED_PATH, {"CallSid": "CA8", "QueueResult": "system-error"}, SORRY),
        (QUEUED_PATH, {"CallSid": "CA8", "QueueResult": "queue-full"}, SORRY),
        (QUEUED_PATH, {"CallSid": "CA8"}, SORRY),
        (QUEUED_PATH, {"CallSid": "CA8", "QueueResult": "bridged"}, "<Response><Hangup />"),
        (QUEUED_PATH, {"CallSid": "CA8", "QueueResult": "redirected"}, "<Response><Hangup />"),
        (QUEUED_PATH, {"CallSid": "CA8", "QueueResult": "leave"}, "<Connect"),
        (WAIT_PATH, {"CallSid": "CA8", "QueueTime": "301"}, "<Leave"),
        (WAIT_PATH, {"CallSid": "CA8", "QueueTime": "9" * 30}, "<Leave"),
        (FORWARDED_PATH, {"DialCallStatus": "completed"}, "<Response><Hangup />"),
        (FORWARDED_PATH, {"DialCallStatus": "no-answer"}, SORRY),
        (FORWARDED_PATH, {}, SORRY),
        (RECORDED_PATH, {"RecordingUrl": "https://x"}, "<Response><Hangup />"),
    ],
)
@in_virtual_time
async def test_what_else_twilio_may_ask(path: str, form: dict[str, str], answer: str) -> None:
    async with full_line(QUIET, QUEUE) as (line, _), aiohttp.ClientSession() as http:
        assert answer in await post(http, line, path, **form)


@in_virtual_time
async def test_the_hold_sound() -> None:
    async with full_line(QUIET, QUEUE) as (line, _), aiohttp.ClientSession() as http:
        base = f"http://{HOST}:{line.port}/voice/hold"
        async with http.get(f"{base}/7.wav") as response:
            assert response.content_type == "audio/wav"
            assert response.headers["Cache-Control"] == "public, max-age=3600"
            assert (await response.read())[:4] == b"RIFF"
        for name in ("8.wav", "-1.wav", "99999.wav", "..%2f0.wav", "0.mp3", ""):
            async with http.get(f"{base}/{name}") as response:
                assert response.status == 404


TOKEN = "12345"


@in_virtual_time
async def test_a_signed_caller_holds_and_strangers_do_not() -> None:
    settings = dataclasses.replace(QUEUE, twilio_auth_tokens=(TOKEN,))
    plan = dataclasses.replace(PLAN, auth_token=TOKEN, called="+15550100")
    async with full_line(QUIET, settings) as (line, _), aiohttp.ClientSession() as http:
        _, second = await calls(line, 2, plan, plan)
        assert second.queue_results == ["leave"]
        assert second.outcome == "the caller hung up"
        for path in (AFTER_PATH, FORWARDED_PATH, QUEUED_PATH, RECORDED_PATH, WAIT_PATH):
            url = f"http://{HOST}:{line.port}{path}"
            async with http.post(url, data={"CallSid": "CA8"}) as response:
                assert response.status == 403
            # The role that travels in the URL is signed with it.
            form = {"CallSid": "CA8"}
            signed = {signature.HEADER: signature.sign(TOKEN, f"{url}?persona=noir", form)}
            async with http.post(f"{url}?persona=x", data=form, headers=signed) as response:
                assert response.status == 403
            async with http.get(url) as response:
                assert response.status == 405


@pytest.mark.parametrize("drain_to", [None, "http://127.0.0.1:{port}"])
@in_virtual_time
async def test_who_holds_when_the_bridge_shuts_down_is_sent_elsewhere(
    drain_to: str | None,
) -> None:
    """To another bridge, where they get a server; or they are asked to call again."""
    async with full_line(QUIET, QUEUE) as (other, other_model):
        to = drain_to.format(port=other.port) if drain_to else None
        settings = dataclasses.replace(QUEUE, drain_to=to)
        async with full_line(QUIET, settings) as (line, _):
            making = asyncio.create_task(calls(line, 2))
            await asyncio.sleep(5.0)
            await line.bridge.drain(60.0)
            first, second = await making
    assert first.outcome == "the caller hung up"
    assert second.queue_results == ["leave"]
    assert second.held_s is not None
    assert second.held_s < HOLD_S
    if to is None:
        assert second.said_by_twilio[-1] == AGAIN
        assert second.outcome == "hung up by TwiML"
    else:
        assert second.outcome == "the caller hung up"
        assert len(other_model.sessions) == 1
