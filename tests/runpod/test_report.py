"""What is printed: prices, tables, and progress with and without a terminal."""

from __future__ import annotations

import io

import pytest

from personaplex_bridge.runpod import report
from personaplex_bridge.runpod.answers import Pod, Spent
from personaplex_bridge.runpod.gate import GateState
from personaplex_bridge.runpod.progress import REPEAT_S, Progress


def test_the_price_of_a_minute_is_a_sixtieth_of_an_hour() -> None:
    expected = "$0.44 an hour, $0.0073 a call-minute (one call at a time)"
    assert report.price(0.44) == expected
    assert "$0.0052 a call-minute" in report.price(0.31)


def test_costs_by_day_add_up() -> None:
    spent = [
        Spent("2026-06-02T00:00:00Z", "a", 3.5, 3.4, 0.0, 0.1),
        Spent("2026-06-01T00:00:00Z", "a", 1.0, 0.8, 0.0, 0.2),
        Spent("2026-06-01T00:00:00Z", "b", 2.0, 1.5, 0.5, 0.0),
        Spent("2026-05-31T00:00:00Z", "b", 0.0, 0.0, 0.0, 0.0),
    ]
    assert list(report.cost_lines(spent, 30, "All pods")) == [
        "All pods, the last 30 days (UTC), USD:",
        "  day              GPU   storage     total",
        "  2026-06-01      2.80      0.20      3.00",
        "  2026-06-02      3.40      0.10      3.50",
        "  sum             6.20      0.30      6.50",
    ]
    assert [line.split() for line in report.cost_by_pod(spent)] == [
        ["pod", "a", "4.50"],
        ["pod", "b", "2.00"],
    ]


def test_nothing_was_spent() -> None:
    assert "  nothing was spent" in list(report.cost_lines([], 7, "Pod a"))


POD = Pod("a1", "mine", "RUNNING", ("stop",), "img:1", 0.44, uptime_s=3720, disk_gb=20)


def test_status_tells_whether_the_model_keeps_up() -> None:
    slow = GateState("busy", step_ms=90.4, step_p95_ms=99.0, keeps_up=False, token_fits=True)
    lines = list(report.status_lines(POD, "https://x", slow))
    assert "state      RUNNING for 1 h 02 min; it may be asked to: stop" in lines
    assert "model      busy; a step takes 90 ms of 80, p95 99 ms: TOO SLOW for a call" in lines
    assert "address    PERSONAPLEX_URL=https://x" in lines
    strange = list(report.status_lines(POD, "https://x", GateState("idle", token_fits=False)))
    assert any("doesn't take PERSONAPLEX_TOKEN" in line for line in strange)


def test_what_deleting_deletes() -> None:
    persistent = Pod("a1", "mine", "EXITED", persistent_gb=40)
    assert "persistent volume of 40 GB goes too" in "".join(report.what_goes(persistent))
    network = Pod("a1", "mine", "EXITED", network_volume="vol1")
    assert "vol1 stays, and costs" in "".join(report.what_goes(network))


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (65, "1 min"), (3600, "1 h 00 min"), (90_000, "25 h 00 min")]
)
def test_durations(seconds: int, text: str) -> None:
    assert report.duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_for_each_change() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, clock)
    progress.tell("pulling", "layer 1")
    progress.tell("pulling", "layer 1")
    clock.now = 5
    progress.tell("pulling", "layer 2")  # soon after: not worth a line
    clock.now = REPEAT_S + 1
    progress.tell("pulling", "layer 3")
    clock.now = 725
    progress.tell("ready", "ready")
    progress.tell("log", "one")
    progress.tell("log", "two")
    assert out.getvalue() == (
        "  0:00  layer 1\n  0:31  layer 3\n 12:05  ready\n 12:05  one\n 12:05  two\n"
    )


def test_a_terminal_s_line_is_rewritten() -> None:
    out = Terminal()
    progress = Progress(out, Clock())
    progress.tell("pulling", "layer 1")
    progress.tell("pulling", "layer 2")
    progress.tell("alarm", "look out")
    progress.close()
    shown = [line.split("\r\x1b[K")[-1] for line in out.getvalue().split("\n")]
    assert shown == ["  0:00  layer 2", "  0:00  look out", ""]
