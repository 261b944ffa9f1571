"""A trace of each call for OpenTelemetry.

    call                   from the first webhook to the end of the stream
    ├── webhook            each, but those of a caller who goes on holding
    ├── reserve server     each attempt
    ├── hold               in the queue
    └── stream             events: first audio, barge-in
        ├── handshake      until the model is ready
        └── without model  after a failure, until the next one is ready

Those of a stream are made when it is over, from the call's record; webhooks that come later belong
to the same trace. All are sent by a thread of the SDK's, which keeps a bounded number of them: when
the collector is away, the oldest are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, cast

from personaplex_bridge import __version__, logs
from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.observing import Answer, Observer, Webhook
from personaplex_bridge.record import CallRecord
from personaplex_bridge.telemetry.labels import of_kind

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

NAME = "personaplex-bridge"
TRACES_PATH = "/v1/traces"
MAX_CALLS = 1000
"""Remembered: those that aren't over, and the last of those that are. The oldest goes first."""
MAX_SID_CHARS = 40
MAX_BARGE_INS = 100
"""Events of one stream: the SDK keeps 128 by default."""
CLOSE_TIMEOUT_S = 3.0
"""How long the last spans may take to be sent."""

FAULTLESS = (1000, 1001)
"""Close codes of streams that no fault has ended."""

_log = logging.getLogger(logs.NAME)

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")
_GOES_ON = frozenset({Answer.CONNECTED, Answer.QUEUED, Answer.HOLDING, Answer.LEFT_QUEUE})
"""There is more to come of a call that gets one of these."""


@dataclass(slots=True)
class _Call:
    """A call that has begun to be traced."""

    span: Span
    within: Context
    """For spans below it."""
    stream_ns: int = 0
    """When its stream began."""
    is_over: bool = False
    """Its span has ended; spans below it may still come."""


class CallTraces(Observer):
    """Makes the spans. They leave through `provider`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(NAME, __version__)
        self._calls: dict[str, _Call] = {}  # the oldest first

    def webhook_answered(self, webhook: Webhook) -> None:
        """See `Observer`."""
        if webhook.answer is Answer.HOLDING or not _CALL_SID.fullmatch(webhook.call_sid):
            return
        end_ns = time.time_ns()
        began_ns = end_ns - _ns(webhook.took_s)
        call = self._call(webhook.call_sid, began_ns)
        self._span(
            call.within,
            "webhook",
            began_ns,
            end_ns,
            {"http.route": webhook.path, "answer": str(webhook.answer)},
        )
        if webhook.held_s is not None:
            self._span(call.within, "hold", end_ns - _ns(webhook.held_s), end_ns, {})
        if webhook.answer not in _GOES_ON and not call.is_over and not call.stream_ns:
            call.span.set_attribute("answer", str(webhook.answer))
            _end(call, end_ns)

    def server_reserved(self, call_sid: str, took_s: float, failure: str | None) -> None:
        """See `Observer`."""
        if not _CALL_SID.fullmatch(call_sid):
            return
        end_ns = time.time_ns()
        began_ns = end_ns - _ns(took_s)
        outcome = "reserved" if failure is None else of_kind(failure)
        within = self._call(call_sid, began_ns).within
        self._span(within, "reserve server", began_ns, end_ns, {"outcome": outcome})

    def call_begins(self, record: CallRecord) -> None:
        """See `Observer`."""
        now_ns = time.time_ns()
        call = self._call(record.call_sid, now_ns)
        if call.is_over:  # another stream of a call that had one
            del self._calls[record.call_sid[:MAX_SID_CHARS]]
            call = self._call(record.call_sid, now_ns)
        call.stream_ns = now_ns

    def call_over(self, record: CallRecord) -> None:
        """See `Observer`."""
        call = self._calls.get(record.call_sid[:MAX_SID_CHARS])
        if call is None or call.is_over or not record.persona:
            return  # a stream that was not let in is no call
        end_ns = call.stream_ns + _ns(record.duration_s)
        self._trace_stream(call, record, end_ns)
        for name, value in _attributes(record).items():
            call.span.set_attribute(name, value)
        _mark_fault(call.span, record)
        _end(call, end_ns)

    def close(self) -> None:
        """End what is open: the process ends."""
        for call in self._calls.values():
            _end(call, time.time_ns())

    def _call(self, call_sid: str, began_ns: int) -> _Call:
        """The call, which begins now if it is not known yet."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, set_span_in_context

        key = call_sid[:MAX_SID_CHARS]  # without TWILIO_AUTH_TOKEN anyone may say anything here
        if key not in self._calls:
            if len(self._calls) >= MAX_CALLS:
                _end(self._calls.pop(next(iter(self._calls))), began_ns)
            span = self._tracer.start_span(
                "call", Context(), kind=SpanKind.SERVER, start_time=began_ns
            )
            if _CALL_SID.fullmatch(call_sid):
                span.set_attribute("call.sid", call_sid)
            self._calls[key] = _Call(span, set_span_in_context(span, Context()))
        return self._calls[key]

    def _span(
        self,
        within: Context,
        name: str,
        began_ns: int,
        end_ns: int,
        attributes: dict[str, AttributeValue],
    ) -> None:
        span = self._tracer.start_span(name, within, attributes=attributes, start_time=began_ns)
        span.end(end_ns)

    def _trace_stream(self, call: _Call, record: CallRecord, end_ns: int) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        began_ns = call.stream_ns
        stream = self._tracer.start_span("stream", call.within, start_time=began_ns)
        within = set_span_in_context(stream, Context())
        if record.first_audio_s is not None:
            stream.add_event("first audio", timestamp=began_ns + _ns(record.first_audio_s))
        for interruption in list(record.barge_ins)[:MAX_BARGE_INS]:
            waiting = {"waiting_ms": interruption.waiting_ms}
            stream.add_event("barge-in", waiting, began_ns + _ns(interruption.at_s))
        if record.handshake_s is not None:
            self._span(within, "handshake", began_ns, began_ns + _ns(record.handshake_s), {})
        for failure in record.failures:
            at_ns = began_ns + _ns(failure.at_s)
            back_ns = end_ns if failure.gone_s is None else at_ns + _ns(failure.gone_s)
            kind = {"error.type": of_kind(failure.kind)}
            self._span(within, "without model", at_ns, max(at_ns, back_ns), {**kind})
        _mark_fault(stream, record)
        stream.end(end_ns)


class _Told:
    """An exporter that tells the log once when the collector is away, and once when it is back."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. In the SDK's thread."""
        result = self._exporter.export(spans)
        if (result.name != "SUCCESS") is not self._is_away:
            self._is_away = not self._is_away
            level = logging.WARNING if self._is_away else logging.INFO
            how = "takes no traces: they are lost" if self._is_away else "takes traces again"
            _log.log(level, "the OpenTelemetry collector %s", how)
        return result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Send no more, and end pauses between attempts."""
        self._exporter.shutdown()


class Traces:
    """The way of spans to a collector: a bounded queue, and a thread that empties it."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes over what we say.
        own = Resource({"service.name": NAME, "service.version": __version__})
        self._provider = TracerProvider(
            resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._exporter = exporter
        self._provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", _Told(exporter))))
        self.observer = CallTraces(self._provider)

    def flush(self) -> None:
        """Send what waits, now. It may take long: not for the event loop."""
        self._provider.force_flush()

    async def close(self) -> None:
        """Send what is left, for `CLOSE_TIMEOUT_S` at most."""
        self.observer.close()
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        # A thread of our own: asyncio's would be waited for when the loop is closed.
        threading.Thread(target=shut_down, name="close-traces", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await sent.wait()
        except TimeoutError:
            self._exporter.shutdown()  # ends its pauses between attempts


def open_traces(endpoint: str) -> Traces:
    """Traces to the OTLP collector at an address. What the SDK's own OTEL_ variables say holds.

    Raises:
        ConfigError: the packages of the extra `otel` aren't installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        allowed = "only with its packages: pip install 'personaplex-bridge[otel]'"
        wrong = WrongValue("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, allowed)
        raise ConfigError(wrong) from error
    traces = Traces(OTLPSpanExporter(f"{endpoint}{TRACES_PATH}"))
    # It has told by now what is wrong with its variables. From here on it would say the same of
    # each attempt and each span, while a collector is away; `_Told` says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return traces


def _end(call: _Call, end_ns: int) -> None:
    if not call.is_over:
        call.is_over = True
        call.span.end(end_ns)


def _attributes(record: CallRecord) -> dict[str, AttributeValue]:
    """What a call came to. Nothing that anybody has said, and no number."""
    ending, delays_s = record.ending, record.turn_delays_s
    known: dict[str, AttributeValue | None] = {
        "persona": record.persona,
        "ended_by": None if ending is None else str(ending.by),
        "reason": None if ending is None else of_kind(ending.kind),
        "close_code": None if ending is None else ending.close_code,
        "duration_s": record.duration_s,
        "setup_s": record.handshake_s,
        "first_audio_s": record.first_audio_s,
        "turns": len(delays_s),
        "turn_delay_s": median(delays_s) if delays_s else None,
        "barge_ins": len(record.barge_ins),
        "model_failures": len(record.failures),
        "uplink_lag_p99_ms": record.uplink_lag.p99_ms,
        "downlink_lag_p99_ms": record.downlink_lag.p99_ms,
        "gaps": record.gaps,
        "gap_ms": record.gap_ms,
        "dropped_frames": record.dropped_frames + record.overdue_frames,
    }
    return {name: value for name, value in known.items() if value is not None}


def _mark_fault(span: Span, record: CallRecord) -> None:
    from opentelemetry.trace import StatusCode

    ending = record.ending
    if ending is not None and ending.close_code not in FAULTLESS:
        span.set_status(StatusCode.ERROR, of_kind(ending.kind))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
