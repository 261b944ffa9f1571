"""Lag, in milliseconds of media: what it has been of late, and over a whole call."""

from __future__ import annotations

from collections import Counter, deque

MAX_SAMPLES = 1024
"""Kept of the recent past at most, however fast messages come."""
BIN_MS = 20
"""Lags are counted by the 20 ms frame."""
MAX_BINS = 250
"""What `LagMeter.times` tells apart: 5 s."""


class RecentLag:
    """The lowest and highest lag of the last `span_s` seconds.

    The lowest is what *stands*: jitter makes lag come and go, a standing one stays until somebody
    removes it. Between the two lies the jitter.
    """

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._shift_ms = 0.0
        # Sliding extremes: a sample is kept until a later one is as low (or as high).
        self._lows: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)
        self._highs: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)

    def add(self, now_s: float, lag_ms: float) -> None:
        """A measurement."""
        lag_ms -= self._shift_ms
        lows, highs = self._lows, self._highs
        while lows and lows[-1][1] >= lag_ms:
            lows.pop()
        while highs and highs[-1][1] <= lag_ms:
            highs.pop()
        for samples in (lows, highs):
            samples.append((now_s, lag_ms))
            while samples[0][0] < now_s - self._span_s:
                samples.popleft()

    def shift(self, by_ms: float) -> None:
        """The whole timeline was moved on purpose: what was measured before moves with it."""
        self._shift_ms += by_ms

    def reset(self) -> None:
        """Forget what was measured."""
        self._lows.clear()
        self._highs.clear()
        self._shift_ms = 0.0

    @property
    def lowest_ms(self) -> float:
        """0 before the first measurement."""
        return self._lows[0][1] + self._shift_ms if self._lows else 0.0

    @property
    def spread_ms(self) -> float:
        """Between the highest and the lowest."""
        return self._highs[0][1] - self._lows[0][1] if self._lows else 0.0


class LagMeter:
    """A call's lags, as a histogram: bounded, however long the call."""

    def __init__(self) -> None:
        self.max_ms = 0.0
        self._bins: Counter[int] = Counter()

    def add(self, lag_ms: float) -> None:
        """A measurement; below zero counts as zero."""
        lag_ms = max(0.0, lag_ms)
        self.max_ms = max(self.max_ms, lag_ms)
        self._bins[int(lag_ms) // BIN_MS] += 1

    def times(self) -> tuple[int, ...]:
        """How many lags there were in each 20 ms from 0 on; the last of 250 has all the rest."""
        if not self._bins:
            return ()
        times = [0] * (min(max(self._bins), MAX_BINS - 1) + 1)
        for number, count in self._bins.items():
            times[min(number, MAX_BINS - 1)] += count
        return tuple(times)

    def percentile_ms(self, percent: float) -> float:
        """So many per cent of the lags were at most this, to 20 ms. 0 without any."""
        wanted = self._bins.total() * percent / 100
        passed = 0
        for number in sorted(self._bins):
            passed += self._bins[number]
            if passed >= wanted:
                return min(float((number + 1) * BIN_MS), self.max_ms)
        return 0.0
