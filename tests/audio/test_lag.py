"""What lag has been of late, and over a whole call."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.lag import BIN_MS, MAX_BINS, LagMeter, RecentLag

LAGS = st.lists(st.floats(-500, 5000), min_size=1, max_size=60)


def recent(*samples: tuple[float, float], span_s: float = 2.0) -> RecentLag:
    lag = RecentLag(span_s)
    for now_s, lag_ms in samples:
        lag.add(now_s, lag_ms)
    return lag


def test_nothing_is_known_before_the_first_measurement() -> None:
    lag = RecentLag(2.0)
    assert (lag.lowest_ms, lag.spread_ms) == (0.0, 0.0)


def test_the_lowest_stands_and_the_rest_is_jitter() -> None:
    lag = recent((0.0, 120.0), (0.1, 60.0), (0.2, 90.0))
    assert (lag.lowest_ms, lag.spread_ms) == (60.0, 60.0)


def test_what_is_older_than_the_span_is_forgotten() -> None:
    lag = recent((0.0, 10.0), (1.0, 50.0))
    lag.add(2.0, 70.0)
    assert lag.lowest_ms == 10.0
    lag.add(2.01, 70.0)
    assert lag.lowest_ms == 50.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-500, 5000)), min_size=1, max_size=80))
def test_lowest_and_spread_are_those_of_the_span(steps: list[tuple[float, float]]) -> None:
    lag, samples, now_s = RecentLag(2.0), [], 0.0
    for step_s, lag_ms in steps:
        now_s += step_s
        samples.append((now_s, lag_ms))
        lag.add(now_s, lag_ms)
        known = [known_ms for at_s, known_ms in samples if at_s >= now_s - 2.0]
        assert lag.lowest_ms == min(known)
        assert lag.spread_ms == max(known) - min(known)


@given(LAGS, st.floats(-1000, 1000), LAGS)
def test_a_shift_moves_what_was_and_not_what_comes(
    before: list[float], by_ms: float, after: list[float]
) -> None:
    lag = recent(*[(0.0, sample) for sample in before])
    lag.shift(by_ms)
    assert lag.lowest_ms == pytest.approx(min(before) + by_ms)
    assert lag.spread_ms == pytest.approx(max(before) - min(before))
    for sample in after:
        lag.add(0.5, sample)
    known = [sample + by_ms for sample in before] + after
    assert lag.lowest_ms == pytest.approx(min(known), abs=1e-6)
    assert lag.spread_ms == pytest.approx(max(known) - min(known), abs=1e-6)


def test_after_a_reset_nothing_is_known() -> None:
    lag = recent((0.0, 100.0))
    lag.shift(40.0)
    lag.reset()
    assert (lag.lowest_ms, lag.spread_ms) == (0.0, 0.0)
    lag.shift(-40.0)
    assert lag.lowest_ms == 0.0
    lag.add(1.0, 30.0)
    assert lag.lowest_ms == 30.0


def test_a_meter_without_measurements_says_zero() -> None:
    meter = LagMeter()
    assert (meter.percentile_ms(50), meter.percentile_ms(99), meter.max_ms) == (0.0, 0.0, 0.0)


def test_percentiles_are_the_upper_end_of_a_20_ms_bin() -> None:
    meter = LagMeter()
    for lag_ms in [5.0] * 98 + [130.0, 333.0]:
        meter.add(lag_ms)
    assert [meter.percentile_ms(percent) for percent in (50, 98, 99, 100)] == [20, 20, 140, 333]
    assert meter.max_ms == 333.0


def test_lag_below_zero_counts_as_none() -> None:
    meter = LagMeter()
    meter.add(-50.0)
    assert (meter.percentile_ms(100), meter.max_ms) == (0.0, 0.0)


@given(LAGS, st.integers(1, 100))
def test_a_percentile_is_right_to_one_bin(lags: list[float], percent: int) -> None:
    meter = LagMeter()
    for lag_ms in lags:
        meter.add(lag_ms)
    wanted = math.ceil(len(lags) * percent / 100)
    exact = max(0.0, sorted(lags)[wanted - 1])
    assert exact <= meter.percentile_ms(percent) <= exact + BIN_MS
    assert meter.percentile_ms(100) == meter.max_ms


def test_how_often_each_lag_was() -> None:
    meter = LagMeter()
    assert meter.times() == ()
    for lag_ms in (0.0, 19.9, 20.0, 65.0, -3.0):
        meter.add(lag_ms)
    assert meter.times() == (3, 1, 0, 1)
    meter.add(4_999.0)
    meter.add(3_600_000.0)
    assert len(meter.times()) == MAX_BINS
    assert meter.times()[-1] == 2
    assert sum(meter.times()) == 7
