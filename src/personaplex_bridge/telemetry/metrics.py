"""What Prometheus is told of calls and webhooks, as counters and histograms.

Nothing is done for a frame of sound: a call's own record is looked at when somebody asks for the
metrics, and once more when the call is over; each time what is new in it is added. So counters grow
while calls go on, and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram

from personaplex_bridge.observing import Observer, Refused, Webhook
from personaplex_bridge.record import CallRecord
from personaplex_bridge.telemetry.buckets import (
    CALL_S,
    LAG_S,
    QUEUE_S,
    REQUEST_S,
    SETUP_S,
    SPEECH_S,
    Weighed,
)
from personaplex_bridge.telemetry.labels import MODEL_ERRORS, REASONS, of_kind

PREFIX = "personaplex_bridge_"
FRAME_S = 0.02

Figure = Callable[[CallRecord], float]

UPLINK: Mapping[str, Figure] = {
    "received": lambda record: record.caller_frames,
    "filled": lambda record: record.filled_frames,
    "doubled": lambda record: record.doubled_frames,
    "shortened": lambda record: record.shortened_frames,
    "dropped": lambda record: record.dropped_frames,
    "gated": lambda record: record.gated_frames,
    "sent": lambda record: record.uplink_packets,
}
DOWNLINK: Mapping[str, Figure] = {
    "received": lambda record: record.model_frames,
    "made_up": lambda record: record.concealed_packets,
    "cushion": lambda record: record.cushion_frames,
    "shortened": lambda record: record.pauses_shortened_frames,
    "dropped": lambda record: record.overdue_frames,
    "cleared": lambda record: record.cleared_frames,
    "tail": lambda record: record.tail_frames,
    "ringing": lambda record: record.ringing_frames,
    "sent": lambda record: record.downlink_frames,
}
FAULTS: Mapping[str, Figure] = {
    "twilio": lambda record: record.bad_messages.total(),
    "model": lambda record: record.ignored_messages.total(),
    "audio": lambda record: record.audio_damage.total(),
}
FRAMES_TEXT = "20 ms frames {}, by what became of them (docs/metrics.md); not to be added up."


@dataclass(slots=True)
class _Counted:
    """What of a call has been counted."""

    figures: list[float]
    is_ready: bool = False
    is_heard: bool = False
    turns: int = 0
    failures: int = 0
    recoveries: int = 0
    lags: dict[str, tuple[int, ...]] = field(default_factory=dict)


class CallMetrics(Observer):
    """The instruments. They belong to `registry`, and to no other."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._counted: dict[int, _Counted] = {}
        self._calls = self._counter(
            "calls",
            "Calls that are over, by whose doing it was and why.",
            ("ended_by", "reason"),
        )
        for how in REASONS:
            self._calls.labels(*how)  # there from the beginning: the rate of a first one needs a 0
        self._begun = self._counter("calls_begun", "Calls whose stream was let in.")
        self._duration = self._histogram("call_duration_seconds", "Length of calls.", CALL_S)
        self._webhooks = self._counter(
            "webhooks", "Webhooks of Twilio's, by what they were answered.", ("path", "answer")
        )
        self._answer = self._histogram(
            "webhook_seconds", "Time until a webhook was answered.", REQUEST_S
        )
        self._refused = self._counter(
            "refused", "Requests and streams that were not served.", ("reason",)
        )
        for why in Refused:
            self._refused.labels(why)
        self._reserve = self._histogram(
            "reservation_seconds",
            "Time until a model server was reserved for a caller, or none could be.",
            REQUEST_S,
            ("outcome",),
        )
        self._queue = self._histogram(
            "queue_seconds",
            "How long callers have held, by what came then.",
            QUEUE_S,
            ("answer",),
        )
        self._ready = self._histogram(
            "setup_seconds", "From a stream's start to the model being ready.", SETUP_S
        )
        self._first_audio = self._histogram(
            "first_audio_seconds", "From a stream's start to the model's first audio.", SETUP_S
        )
        self._turns = self._histogram(
            "turn_delay_seconds",
            "From the caller's last voice to the model's first sound at the phone.",
            SPEECH_S,
        )
        self._lag = Weighed(
            f"{PREFIX}lag_seconds",
            "How late sound is: uplink, of what the caller says, at the bridge or the model; "
            "downlink, of what the model says, at the bridge or Twilio. To 20 ms.",
            "direction",
            ("uplink", "downlink"),
            LAG_S,
        )
        registry.register(self._lag)
        self._failures = self._counter(
            "model_failures", "Times the model failed in a call, by the error.", ("error",)
        )
        for error in MODEL_ERRORS:
            self._failures.labels(error)
        self._recovery = self._histogram(
            "recovery_seconds", "How long calls were without a model until the next one.", SETUP_S
        )
        self._figures = [
            *self._by_kind("uplink_frames", "kind", FRAMES_TEXT.format("to the model"), UPLINK),
            *self._by_kind(
                "downlink_frames", "kind", FRAMES_TEXT.format("to the caller"), DOWNLINK
            ),
            *self._by_kind(
                "faults", "source", "Malformed messages, and damage in the model's audio.", FAULTS
            ),
            self._plain(
                "barge_ins",
                "Interruptions that cleared sound.",
                lambda record: len(record.barge_ins),
            ),
            self._plain(
                "gaps",
                "Times the phone ran out of sound in the middle of it.",
                lambda record: record.gaps,
            ),
            self._plain(
                "gap_seconds", "Time the phone was without.", lambda record: record.gap_ms / 1000
            ),
        ]

    def webhook_answered(self, webhook: Webhook) -> None:
        """See `Observer`."""
        self._webhooks.labels(webhook.path, webhook.answer).inc()
        self._answer.observe(webhook.took_s)
        if webhook.held_s is not None:
            self._queue.labels(webhook.answer).observe(webhook.held_s)

    def refused(self, why: Refused) -> None:
        """See `Observer`."""
        self._refused.labels(why).inc()

    def server_reserved(self, call_sid: str, took_s: float, failure: str | None) -> None:
        """See `Observer`."""
        outcome = "reserved" if failure is None else of_kind(failure)
        self._reserve.labels(outcome).observe(took_s)

    def call_begins(self, record: CallRecord) -> None:
        """See `Observer`."""
        self._begun.inc()

    def call_over(self, record: CallRecord) -> None:
        """See `Observer`."""
        self.count(record)
        self._counted.pop(id(record))
        ending = record.ending
        if record.persona and ending is not None:
            self._calls.labels(ending.by, of_kind(ending.kind)).inc()
            self._duration.observe(record.duration_s)
        elif ending is not None and ending.kind != "StreamRefused":  # which `refused` has counted
            self.refused(Refused.NO_ROOM if ending.kind == "ModelBusy" else Refused.NO_START)

    def count(self, record: CallRecord) -> None:
        """Add what is new since the last time. The record's counters must be up to date."""
        counted = self._counted.setdefault(id(record), _Counted([0.0] * len(self._figures)))
        for number, (counter, figure) in enumerate(self._figures):
            value = figure(record)
            counter.inc(max(0.0, value - counted.figures[number]))
            counted.figures[number] = max(value, counted.figures[number])
        self._count_moments(record, counted)
        self._count_failures(record, counted)
        self._count_lag(counted, "uplink", record.uplink_lag.times)
        self._count_lag(counted, "downlink", record.downlink_lag.times)

    def _count_moments(self, record: CallRecord, counted: _Counted) -> None:
        if record.handshake_s is not None and not counted.is_ready:
            counted.is_ready = True
            self._ready.observe(record.handshake_s)
        if record.first_audio_s is not None and not counted.is_heard:
            counted.is_heard = True
            self._first_audio.observe(record.first_audio_s)
        for delay_s in record.turn_delays_s[counted.turns :]:
            self._turns.observe(delay_s)
        counted.turns = len(record.turn_delays_s)

    def _count_failures(self, record: CallRecord, counted: _Counted) -> None:
        for failure in record.failures[counted.failures :]:
            self._failures.labels(of_kind(failure.kind)).inc()
        counted.failures = len(record.failures)
        # One follows the other: only the last can be without an end.
        for failure in record.failures[counted.recoveries :]:
            if failure.gone_s is not None:
                self._recovery.observe(failure.gone_s)
                counted.recoveries += 1

    def _count_lag(self, counted: _Counted, direction: str, times: tuple[int, ...]) -> None:
        before = counted.lags.get(direction, ())
        counted.lags[direction] = times
        for number, count in enumerate(times):
            more = count - (before[number] if number < len(before) else 0)
            if more > 0:
                self._lag.observe(direction, (number + 0.5) * FRAME_S, more)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, bounds: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(PREFIX + name, text, labels, registry=self._registry, buckets=bounds)

    def _plain(self, name: str, text: str, figure: Figure) -> tuple[Counter, Figure]:
        return self._counter(name, text), figure

    def _by_kind(
        self, name: str, label: str, text: str, figures: Mapping[str, Figure]
    ) -> list[tuple[Counter, Figure]]:
        counter = self._counter(name, text, (label,))
        return [(counter.labels(kind), figure) for kind, figure in figures.items()]
