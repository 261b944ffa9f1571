"""Traces of real calls, as a collector gets them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import subprocess
import sys
import time

import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.observing import Answer, Webhook
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Failure, Interruption
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.telemetry import traces
from personaplex_bridge.telemetry.traces import CLOSE_TIMEOUT_S, MAX_CALLS, Traces, open_traces
from tests.live.harness import COLD, bridge_to, full_line, raw_model, speech
from tests.live.test_recovery import Models
from tests.telemetry.collector import Collector, Span, collecting

SID = "CA" + "7" * 32
QUICK = ModelOptions(prompt_ms=100)
TALK = CallPlan("", speech()[: 8000 * 2], caller="+15550177", hang_up_after_s=3.0)


def traced(collector: Collector, settings: Settings = COLD) -> Settings:
    return dataclasses.replace(settings, otlp_endpoint=collector.endpoint)


def only(spans: list[Span]) -> Span:
    (span,) = spans
    return span


async def test_a_call_is_one_trace() -> None:
    with collecting() as collector:
        async with full_line(QUICK, traced(collector)) as (line, _):
            before_ns = time.time_ns()
            report = await line.call(TALK)
            record = await line.record()
    assert collector.paths == {"/v1/traces"}
    assert collector.resource["service.name"] == "personaplex-bridge"
    assert len({span.trace_id for span in collector.spans}) == 1
    call, stream = only(collector.named("call")), only(collector.named("stream"))
    assert not call.parent_id
    for name in ("webhook", "reserve server", "stream"):
        assert only(collector.named(name)).parent_id == call.span_id, name
    handshake = only(collector.named("handshake"))
    assert handshake.parent_id == stream.span_id
    assert handshake.seconds == pytest.approx(record.handshake_s, abs=1e-3)
    assert handshake.start_ns == stream.start_ns
    assert stream.seconds == pytest.approx(record.duration_s, abs=1e-3)
    assert before_ns <= call.start_ns <= stream.start_ns
    assert call.end_ns == stream.end_ns <= time.time_ns()
    name, at_ns = stream.events[0]
    assert name == "first audio"
    assert (at_ns - stream.start_ns) / 1e9 == pytest.approx(record.first_audio_s, abs=1e-3)
    assert call.attributes["call.sid"] == report.call_sid
    assert call.attributes["reason"] == "hung_up"
    assert call.attributes["persona"] == "assistant"
    assert call.attributes["turns"] == len(record.turn_delays_s)
    assert not call.is_error
    private = [TALK.caller.encode(), *(word.text.encode() for word in record.words)]
    assert not [one for one in private if len(one) > 5 and any(one in b for b in collector.bodies)]


async def test_a_failure_is_a_span_of_its_own() -> None:
    with collecting() as collector:
        models = Models("closes")
        async with raw_model(models) as url, bridge_to(url, traced(collector)) as line:
            await line.call(CallPlan("", b"", hang_up_after_s=4.0))
            record = await line.record()
    failure, span = record.failures[0], only(collector.named("without model"))
    assert span.attributes == {"error.type": "model_closed"}
    assert span.seconds == pytest.approx(failure.gone_s, abs=1e-3)
    assert span.parent_id == only(collector.named("stream")).span_id


async def test_a_call_without_a_model_is_marked_and_what_comes_after_belongs_to_it() -> None:
    with collecting() as collector:
        async with bridge_to("ws://127.0.0.1:9/api/chat", traced(collector)) as line:
            await line.call(CallPlan("", b"", hang_up_after_s=10.0))
            await line.record()
    assert len({span.trace_id for span in collector.spans}) == 1
    call = only(collector.named("call"))
    assert call.is_error
    assert call.attributes["reason"] == "model_unavailable"
    routes = [span.attributes["http.route"] for span in collector.named("webhook")]
    assert sorted(routes) == ["/voice/after", "/voice/inbound"]


@pytest.mark.parametrize("status", [None, 500, 503])
async def test_a_collector_that_is_away_harms_nobody(
    status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting(status or 200) as collector:
        settings = traced(collector)
        if status is None:
            settings = dataclasses.replace(COLD, otlp_endpoint="http://127.0.0.1:9")
        async with full_line(QUICK, settings) as (line, _):
            report = await line.call(TALK)
            ended_s = time.monotonic()
        assert time.monotonic() - ended_s < CLOSE_TIMEOUT_S + 2.0
    assert report.outcome == "the caller hung up"
    assert report.problems == []
    told = [entry for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert [entry.getMessage() for entry in told if "collector" in entry.getMessage()] == [
        "the OpenTelemetry collector takes no traces: they are lost"
    ]
    assert not [entry for entry in caplog.records if entry.name.startswith("opentelemetry")]


async def test_it_is_told_when_the_collector_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with collecting(400) as collector:  # one that the exporter doesn't try again
        traces_ = open_traces(collector.endpoint)
        for status in (400, 400, 200, 200):
            collector.status = status
            traces_.observer.webhook_answered(Webhook(SID, "/voice/inbound", Answer.SORRY, 0.1))
            await asyncio.to_thread(traces_.flush)
        await traces_.close()
    assert [entry.getMessage().split("collector ")[1] for entry in caplog.records] == [
        "takes no traces: they are lost",
        "takes traces again",
    ]


async def test_what_waits_is_bounded() -> None:
    away = open_traces("http://127.0.0.1:9")
    began_s = time.monotonic()
    for number in range(5_000):
        sid = f"CA{number:032x}"
        away.observer.webhook_answered(Webhook(sid, "/voice/inbound", Answer.CONNECTED, 0.01))
        away.observer.call_begins(CallRecord(sid, "MZ1", "noir"))
    assert time.monotonic() - began_s < 20.0
    assert len(away.observer._calls) == MAX_CALLS
    await away.close()


async def test_many_events_hostile_sids_and_second_streams() -> None:
    with collecting() as collector:
        traces_ = open_traces(collector.endpoint)
        observer = traces_.observer
        record = CallRecord(SID, "MZ1", "noir", duration_s=9.0, handshake_s=0.5)
        record.ending = Ending(EndedBy.MODEL, "gone +15550100", 1011, "ModelClosed")
        record.barge_ins.extend(Interruption(float(n), 300.0) for n in range(500))
        record.failures.append(Failure(8.0, "said +15550100", None, "ModelClosed"))
        for _ in range(2):
            observer.call_begins(record)
            observer.call_over(record)
        for sid in ("", "x" * 50_000, "+15550100"):
            hostile = dataclasses.replace(record, call_sid=sid)
            observer.call_begins(hostile)
            observer.call_over(hostile)
        observer.call_over(CallRecord("CA1"))
        observer.webhook_answered(Webhook("+15550100", "/voice/inbound", Answer.SORRY, 0.1))
        await traces_.close()
    calls = collector.named("call")
    assert len(calls) == 5
    assert len({span.trace_id for span in calls}) == 5
    assert [call.attributes.get("call.sid") for call in calls].count(SID) == 2
    assert all(call.is_error and call.attributes["reason"] == "model_closed" for call in calls)
    stream = collector.named("stream")[0]
    assert len(stream.events) == traces.MAX_BARGE_INS
    assert collector.named("without model")[0].seconds == pytest.approx(1.0)
    assert b"+1555" not in b"".join(collector.bodies)
    assert b"xxxxx" not in b"".join(collector.bodies)


async def test_who_holds_and_who_is_turned_away() -> None:
    with collecting() as collector:
        traces_ = open_traces(collector.endpoint)
        tell = traces_.observer.webhook_answered
        tell(Webhook(SID, "/voice/inbound", Answer.QUEUED, 0.1))
        tell(Webhook(SID, "/voice/wait", Answer.HOLDING, 0.1))
        tell(Webhook(SID, "/voice/queued", Answer.SORRY, 0.1, 33.0))
        await traces_.close()
    assert only(collector.named("call")).attributes["answer"] == "sorry"
    assert only(collector.named("hold")).seconds == pytest.approx(33.0)
    assert len(collector.named("webhook")) == 2


async def test_the_standard_variables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-line")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    with collecting() as collector:
        traces_: Traces = open_traces(collector.endpoint)
        traces_.observer.webhook_answered(Webhook(SID, "/voice/inbound", Answer.SORRY, 0.1))
        await traces_.close()
    assert collector.resource["service.name"] == "my-line"
    assert collector.resource["deployment.environment"] == "test"
    assert {name.lower(): value for name, value in collector.headers[0].items()}["x-key"] == "abc"


async def test_without_traces_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, asyncio\n"
        "from personaplex_bridge import serve\n"
        "from personaplex_bridge.config import Settings\n"
        "from personaplex_bridge.telemetry import telemetry\n"
        "async def main():\n"
        "    async with telemetry(Settings()): pass\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
