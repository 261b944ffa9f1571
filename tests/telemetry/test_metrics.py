"""What Prometheus reads after real calls between stand-ins, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from itertools import pairwise
from urllib.parse import quote

import aiohttp
import pytest

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.pool.health import FAILURES
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.telemetry.buckets import SPEECH_S
from personaplex_bridge.telemetry.labels import of_kind
from personaplex_bridge.telemetry.metrics import DOWNLINK, FAULTS, UPLINK
from personaplex_bridge.twilio import signature
from personaplex_bridge.twilio.inbound import Stop, serialize
from tests.live.harness import (
    ACCOUNT_SID,
    CALL_SID,
    COLD,
    HOST,
    STREAM_SID,
    in_conversation,
    raw_model,
    raw_twilio,
    speech,
    stop,
    until,
)
from tests.live.test_recovery import Models
from tests.telemetry.scraped import OPENMETRICS, Scrape, ask, read, scrape
from tests.telemetry.watched import bridge_to, full_line
from tests.virtual import in_virtual_time

REPEAT = ModelOptions(prompt_ms=300)
TALK = CallPlan("", speech()[: 8000 * 6], hang_up_after_s=10.0)


def tells(told: Scrape, record: CallRecord) -> None:
    """Every figure of the one call is there, and once only."""
    for kind, figure in UPLINK.items():
        assert told.value("uplink_frames_total", kind=kind) == figure(record), kind
    for kind, figure in DOWNLINK.items():
        assert told.value("downlink_frames_total", kind=kind) == figure(record), kind
    for source, figure in FAULTS.items():
        assert told.value("faults_total", source=source) == figure(record), source
    assert told.value("gaps_total") == record.gaps
    assert told.value("gap_seconds_total") == pytest.approx(record.gap_ms / 1000)
    assert told.value("barge_ins_total") == len(record.barge_ins)
    assert told.value("turn_delay_seconds_count") == len(record.turn_delays_s)
    assert told.value("turn_delay_seconds_sum") == pytest.approx(sum(record.turn_delays_s))
    for bound in SPEECH_S:
        within = sum(delay_s <= bound for delay_s in record.turn_delays_s)
        assert told.value("turn_delay_seconds_bucket", le=str(bound)) == within
    for direction, lag in (("uplink", record.uplink_lag), ("downlink", record.downlink_lag)):
        assert told.value("lag_seconds_count", direction=direction) == sum(lag.times)
        at_most_100_ms = told.value("lag_seconds_bucket", direction=direction, le="0.1")
        assert at_most_100_ms == sum(lag.times[:5])


@in_virtual_time
async def test_a_call_from_webhook_to_hang_up() -> None:
    async with full_line(REPEAT) as (line, _):
        before = await scrape(line)
        await line.call(TALK)
        record, told = await line.record(), await scrape(line)
    assert before.value("calls_total", ended_by="caller", reason="hung_up") == 0
    assert told.value("calls_begun_total") == told.total("calls_total") == 1
    assert told.value("calls_total", ended_by="caller", reason="hung_up") == 1
    assert told.value("calls_in_progress") == 0
    assert told.value("webhooks_total", path="/voice/inbound", answer="connected") == 1
    assert told.value("reservation_seconds_count", outcome="reserved") == 1
    assert told.value("call_duration_seconds_sum") == pytest.approx(record.duration_s)
    assert told.value("setup_seconds_sum") == pytest.approx(record.handshake_s)
    assert told.value("first_audio_seconds_sum") == pytest.approx(record.first_audio_s)
    assert told.value("event_loop_delay_seconds_count") >= 100
    assert told.total("refused_total") == 0
    assert record.caller_frames > 400
    assert record.turn_delays_s
    tells(told, record)


@in_virtual_time
async def test_counters_grow_while_a_call_goes_on_and_count_nothing_twice() -> None:
    async with full_line(REPEAT) as (line, _):
        calling = asyncio.create_task(line.call(TALK))
        scrapes = []
        while not calling.done():
            await asyncio.sleep(0.7)
            scrapes.append(await scrape(line))
        record = await line.record()
        for _ in range(2):
            tells(await scrape(line), record)
    during = [one for one in scrapes if one.value("calls_in_progress")]
    assert len(during) > 10
    received = [one.value("uplink_frames_total", kind="received") for one in during]
    assert received == sorted(received)
    assert received[0] < received[5] < received[-1] <= record.caller_frames
    for earlier, later in pairwise(scrapes):
        for key, value in earlier.samples.items():
            if key[0].endswith(("_total", "_count", "_bucket")) and "python" not in key[0]:
                assert later.samples[key] >= value, key


@in_virtual_time
async def test_a_call_that_ends_during_a_scrape_is_counted_once() -> None:
    settings, other = dataclasses.replace(COLD, personaplex_capacity=2), "CA" + "7" * 32
    async with (
        full_line(ModelOptions(prompt_ms=100, sessions=2), settings) as (line, _),
        raw_twilio(line),
        raw_twilio(line, call_sid=other) as second,
    ):
        await until(lambda: len(line.bridge.sessions) == 2)
        await second.speak(20)
        counted = line.bridge.counted()  # as a scrape does, which lets others in between
        assert next(counted).call_sid == CALL_SID
        await second.send(serialize(Stop(STREAM_SID, 9, other, ACCOUNT_SID)))
        await line.record()
        assert list(counted) == []
        for _ in range(2):
            told = await scrape(line)
            assert told.value("uplink_frames_total", kind="received") == 20


@in_virtual_time
async def test_failures_and_recoveries_by_the_error() -> None:
    models = Models("dies after a while", "closes")
    async with raw_model(models) as url, bridge_to(url) as line:
        await line.call(CallPlan("", b"", hang_up_after_s=12.0))
        record, told = await line.record(), await scrape(line)
    assert [failure.kind for failure in record.failures] == ["ModelClosed"] * 2
    assert told.value("model_failures_total", error="model_closed") == 2
    assert told.value("recovery_seconds_count") == 2
    gone_s = sum(failure.gone_s or 0.0 for failure in record.failures)
    assert told.value("recovery_seconds_sum") == pytest.approx(gone_s)
    tells(told, record)


@in_virtual_time
async def test_without_a_model_server() -> None:
    async with bridge_to("ws://127.0.0.1:9/api/chat") as line:
        for _ in range(FAILURES + 1):
            await line.call(CallPlan("", b"", hang_up_after_s=10.0))
        told = await scrape(line)
    assert told.value("model_server_circuit", server="1", circuit="open") == 1
    assert told.value("model_server_circuit", server="1", circuit="closed") == 0
    assert told.value("lines", state="down") == 1
    assert told.value("leases_reachable") == 1
    ended = told.value("calls_total", ended_by="model", reason="model_unavailable")
    sorry = told.value("webhooks_total", path="/voice/inbound", answer="sorry")
    assert ended + sorry == FAILURES + 1
    assert told.value("reservation_seconds_count", outcome="model_unavailable") == sorry > 0


@in_virtual_time
async def test_callers_who_hold() -> None:
    settings = Settings(warm_lines=False)
    plan = CallPlan("", b"", hang_up_after_s=20.0)
    async with full_line(ModelOptions("tone", prompt_ms=300), settings) as (line, _):
        first = asyncio.create_task(line.call(plan))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(line.call(plan))
        await asyncio.sleep(5.0)
        during = await scrape(line)
        _, report = await asyncio.gather(first, second)
        told = await scrape(line)
    assert during.value("callers_waiting") == 1
    assert during.value("model_server_calls", server="1") == 1
    assert during.value("model_server_capacity", server="1") == 1
    assert during.value("lines", state="busy") == 1
    assert during.value("webhooks_total", path="/voice/inbound", answer="queued") == 1
    assert told.value("callers_waiting") == 0
    assert report.held_s is not None
    assert told.value("queue_seconds_count", answer="connected") == 1
    assert told.value("queue_seconds_sum", answer="connected") == pytest.approx(
        report.held_s, abs=1.0
    )


@in_virtual_time
async def test_draining_and_its_ends() -> None:
    async with (
        full_line(ModelOptions("silence", prompt_ms=0, step_ms=0)) as (line, model),
        raw_twilio(line) as peer,
    ):
        await in_conversation(line, peer, model)
        assert (await scrape(line)).value("draining") == 0
        await line.bridge.end_calls()
        told = await scrape(line)
    assert told.value("draining") == 1
    assert told.value("calls_total", ended_by="bridge", reason="shutting_down") == 1


@in_virtual_time
async def test_who_is_refused_and_why() -> None:
    token = "0123456789abcdef0123456789abcdef"
    settings = dataclasses.replace(
        COLD, twilio_auth_tokens=(token,), public_urls=("https://b.example",), webhook_rate=5
    )
    stream = signature.sign(token, "wss://b.example/voice/stream", {})
    async with full_line(REPEAT, settings) as (line, _), aiohttp.ClientSession() as http:
        for _ in range(7):
            async with http.post(line.webhook, data={"CallSid": CALL_SID}) as answer:
                assert answer.status in (403, 429)
        async with http.get(f"http://{HOST}:{line.port}/wp-login.php") as answer:
            assert answer.status == 404
        async with http.post(line.webhook, data=b"\xff") as answer:
            assert answer.status == 400
        for message in (None, '{"event":"start","start":{}}'):
            headers = {signature.HEADER: stream}
            async with http.ws_connect(line.stream_url, headers=headers) as socket:
                if message:
                    await socket.send_str(message)
                await socket.close()
            await line.record()
        told = await scrape(line)
    assert told.value("refused_total", reason="wrong_signature") == 5
    assert told.value("refused_total", reason="too_many_requests") == 2
    assert told.value("refused_total", reason="not_found") == 1
    assert told.value("refused_total", reason="malformed") == 1
    assert told.value("refused_total", reason="no_start") == 2
    assert told.total("calls_total") == told.value("calls_begun_total") == 0


@in_virtual_time
async def test_a_stream_without_a_token_is_refused_once() -> None:
    token = "0123456789abcdef0123456789abcdef"
    settings = dataclasses.replace(
        COLD, twilio_auth_tokens=(token,), public_urls=("https://b.example",)
    )
    signed = {signature.HEADER: signature.sign(token, "wss://b.example/voice/stream", {})}
    start = (
        '{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"accountSid":"AC1",'
        '"streamSid":"MZ1","callSid":"CA1","tracks":["inbound"],"mediaFormat":'
        '{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{}}}'
    )
    async with full_line(REPEAT, settings) as (line, _), aiohttp.ClientSession() as http:
        async with http.ws_connect(line.stream_url, headers=signed) as socket:
            await socket.send_str('{"event":"connected","protocol":"Call","version":"1.0.0"}')
            await socket.send_str(start)
            await socket.receive()
            assert socket.close_code == 1008
        await line.record()
        told = await scrape(line)
    assert told.value("refused_total", reason="no_token") == 1
    assert told.total("refused_total") == 1
    assert told.total("calls_total") == 0


def nasty(dice: random.Random) -> str:
    letters = "abcXYZ0189+/\"'\\{}\n\r\t é€\x00<>&=#%"
    return "".join(dice.choices(letters, k=dice.randint(1, 60)))


@in_virtual_time
async def test_nobody_outside_can_make_up_labels() -> None:
    """Random personas, paths, SIDs, statuses and numbers: not one sample more than before."""
    dice, secret = random.Random(7), "+15550147"
    async with full_line(REPEAT) as (line, _), aiohttp.ClientSession() as http:
        await line.call(TALK)

        async def bother() -> None:
            words = {name: nasty(dice) for name in ("CallSid", "QueueResult", "CallStatus", "To")}
            form = {**words, "From": secret, "DialCallStatus": nasty(dice)}
            base, query = f"http://{HOST}:{line.port}", f"?persona={quote(nasty(dice))}"
            for path in ("inbound", "wait", "queued", "after", "forwarded", "recorded"):
                async with http.post(f"{base}/voice/{path}{query}", data=form) as answer:
                    await answer.read()
            async with http.get(f"{base}/{quote(nasty(dice), safe='')}") as answer:
                assert answer.status == 404
            async with raw_twilio(line, call_sid=nasty(dice), parameters={"persona": "x"}) as peer:
                await peer.speak(1)
                await peer.send(stop())
                await peer.close_code()
            await asyncio.sleep(1.0)  # WEBHOOK_RATE

        before = await scrape(line)
        for _ in range(40):
            await bother()
        told = await scrape(line)
    assert set(told.samples) - set(before.samples) == set()
    assert len(told.samples) < 1000
    values = {value for _, labels in told.samples for _, value in labels}
    assert not {value for value in values if len(value) > 40}
    assert secret not in told.text
    assert CALL_SID not in told.text


def test_errors_of_others_are_other() -> None:
    assert of_kind("ModelClosed") == "model_closed"
    assert of_kind("hung_up") == "hung_up"
    assert of_kind("KeyError") == of_kind("") == of_kind("+15550100") == "other"


@pytest.mark.parametrize(
    ("allow", "headers", "status"),
    [
        ("127.0.0.0/8, ::1", {}, 200),
        ("127.0.0.0/8, ::1", {"X-Forwarded-For": "203.0.113.9"}, 403),
        ("127.0.0.0/8, ::1", {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}, 403),
        ("127.0.0.0/8, ::1", {"X-Forwarded-Proto": "https"}, 403),
        ("127.0.0.0/8, ::1", {"x-forwarded-host": "bridge.example"}, 403),
        ("127.0.0.0/8, ::1", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("127.0.0.0/8, ::1", {"forwarded": "for=203.0.113.9"}, 403),
        ("127.0.0.0/8, ::1", {"x-forwarded-for": "unknown", "X-Forwarded-Host": "b.example"}, 403),
        ("203.0.113.0/24", {"X-Forwarded-For": "203.0.113.9"}, 200),
        ("203.0.113.0/24", {"X-Forwarded-For": "203.0.113.9, 198.51.100.1"}, 403),
        ("203.0.113.0/24", {}, 403),
        ("0.0.0.0/0, ::/0", {"X-Forwarded-For": "2001:db8::1"}, 200),
        ("off", {}, 404),
    ],
)
@in_virtual_time
async def test_who_may_read_them(allow: str, headers: dict[str, str], status: int) -> None:
    settings = dataclasses.replace(
        COLD, metrics_allow=read_settings({"METRICS_ALLOW": allow}).metrics_allow
    )
    async with full_line(REPEAT, settings) as (line, _):
        got, text = await ask(line, headers)
        assert got == status
        assert ("personaplex_bridge" in text) is (status == 200)


@in_virtual_time
async def test_openmetrics_too_and_every_metric_is_explained() -> None:
    async with full_line(REPEAT) as (line, _):
        await line.call(TALK)
        status, text = await ask(line, {"Accept": OPENMETRICS})
        told, plain = read(text, openmetrics=True), await scrape(line)
    assert status == 200
    assert told.value("calls_begun_total") == 1
    ours = {name: help_ for name, (_, help_) in plain.families.items() if "personaplex" in name}
    assert len(ours) > 30
    assert all(len(help_) > 5 for help_ in ours.values()), ours
    assert "process_resident_memory_bytes" in plain.names
    assert "process_open_fds" in plain.names
    assert not [name for name in plain.names | told.names if name.endswith("_created")]
