"""Observers are told what happens, and can harm neither a call nor each other."""

from __future__ import annotations

import pytest

from personaplex_bridge.observing import Answer, Observer, Refused, Several, Webhook
from personaplex_bridge.record import CallRecord

WEBHOOK = Webhook("CA1", "/voice/inbound", Answer.CONNECTED, 0.1)


class Notes(Observer):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def webhook_answered(self, webhook: Webhook) -> None:
        self.heard.append(webhook)

    def refused(self, why: Refused) -> None:
        self.heard.append(why)

    def server_reserved(self, call_sid: str, took_s: float, failure: str | None) -> None:
        self.heard.append((call_sid, took_s, failure))

    def call_begins(self, record: CallRecord) -> None:
        self.heard.append(("begins", record.call_sid))

    def call_over(self, record: CallRecord) -> None:
        self.heard.append(("over", record.call_sid))


class Broken(Observer):
    def call_begins(self, record: CallRecord) -> None:
        raise RuntimeError("no")

    def call_over(self, record: CallRecord) -> None:
        raise RuntimeError("no")


def tell_all(observer: Observer) -> None:
    observer.webhook_answered(WEBHOOK)
    observer.refused(Refused.RATE)
    observer.server_reserved("CA1", 0.2, None)
    observer.call_begins(CallRecord("CA1"))
    observer.call_over(CallRecord("CA1"))


def test_each_hears_everything_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    first, last = Notes(), Notes()
    tell_all(Several(first, Broken(), last))
    wanted = [
        WEBHOOK,
        Refused.RATE,
        ("CA1", 0.2, None),
        ("begins", "CA1"),
        ("over", "CA1"),
    ]
    assert first.heard == last.heard == wanted
    failures = [entry for entry in caplog.records if "failed" in entry.message]
    assert [entry.message for entry in failures] == ["Broken failed; calls go on without it"]


def test_nobody_need_look_on() -> None:
    tell_all(Several())


def test_numbers_stay_out_of_what_is_printed() -> None:
    assert "+1555" not in repr(WEBHOOK)
