"""Histograms: the bounds of their buckets, in seconds; and one that takes many at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

SPEECH_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Between people an answer takes 0.2 s; 1 s is felt as late, 3 s as an outage."""
SETUP_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0)
"""A warm line is ready at once; a cold one takes in its prompts, for up to HANDSHAKE_TIMEOUT."""
REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
"""Twilio waits 15 s for the answer to a webhook."""
LAG_S = (0.02, 0.04, 0.06, 0.1, 0.16, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""Whole frames of 20 ms: lags are counted by them."""
QUEUE_S = (5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0)
CALL_S = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0)
"""Twilio ends a call after four hours."""
LOOP_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""20 ms is one frame of sound."""


class Weighed(Collector):
    """A histogram that takes many equal observations at once: prometheus_client's can't."""

    def __init__(
        self, name: str, text: str, label: str, values: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._bounds = tuple(bounds)
        self._counts = {value: [0] * (len(bounds) + 1) for value in values}
        self._sums = dict.fromkeys(values, 0.0)

    def observe(self, value: str, seconds: float, times: int) -> None:
        """So many observations, under one of the label's values."""
        self._counts[value][bisect_left(self._bounds, seconds)] += times
        self._sums[value] += seconds * times

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric as it is now."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        for value, counts in self._counts.items():
            family.add_metric([value], self._cumulated(counts), self._sums[value])
        yield family

    def _cumulated(self, counts: Sequence[int]) -> list[tuple[str, float]]:
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        return [(bound, float(sum(counts[: n + 1]))) for n, bound in enumerate(bounds)]
