"""The judgement of `./scripts/bench watched`."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.delays import percentiles
from benchmarks.load import Load, NotCalm, Run
from benchmarks.watched import ALONE, COST, KEPT, WATCHED, compare, is_good, render, told

LOAD = Load(calls=2, seconds=8.0)


def run(cost_s: float = 0.16, delay_ms: float = 1.0, heard: int = 200) -> Run:
    """What a turn of two calls may come to: 100 frames each way in each."""
    delays = [delay_ms] * 190 + [3 * delay_ms] * 10
    return Run(
        wall_s=8.0,
        cpu_s=cost_s,
        watchers_cpu_s=0.08,
        idle_rss=0,
        rss=0,
        uplink_ms=delays,
        downlink_ms=delays[:heard],
        late_ms=[0.1],
        underruns=0,
        problems=0,
    )


def result(*watched: Run) -> dict[str, Any]:
    seen = {"events": 32, "event_bytes": 1, "scrapes": 2, "scrape_bytes": 1}
    turns = {
        ALONE: [told(LOAD, run(), None)] * len(watched),
        WATCHED: [told(LOAD, one, seen) for one in watched],
        KEPT: [told(LOAD, run(cost_s=1.0), seen)] * len(watched),
    }
    return compare(LOAD, "events", turns)


def test_a_little_worse_is_good() -> None:
    found = result(run(0.17), run(0.3), run(0.16))  # the median counts
    assert found["worse_by"][WATCHED][COST] == pytest.approx(0.0625)
    assert is_good(found)
    assert "allowed" not in render(found)


def test_a_history_is_told_of_and_not_judged() -> None:
    found = result(run())
    assert found["worse_by"][KEPT][COST] == pytest.approx(5.25)
    assert is_good(found)
    assert "+525.0%" in render(found)


@pytest.mark.parametrize(
    ("worse", "what"), [(run(cost_s=0.18), COST), (run(delay_ms=1.2), "uplink_ms_p99")]
)
def test_much_worse_is_not(worse: Run, what: str) -> None:
    found = result(worse, worse, run())
    assert found["worse_by"][WATCHED][what] > 0.1
    assert not is_good(found)
    assert "10% allowed" in render(found)


def test_the_watchers_own_cost_is_told_apart() -> None:
    assert "The watcher itself took 1.0 % of a core." in render(result(run()))


def test_a_turn_of_which_little_is_known_does_not_count() -> None:
    with pytest.raises(NotCalm):
        told(LOAD, run(heard=20), None)


def test_percentiles_of_nothing() -> None:
    assert percentiles([]) is None
