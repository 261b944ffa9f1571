"""Delays of frames: the differences of two readings of the one monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def differences_ms(
    before: Iterable[float],
    after: Iterable[float],
    window: tuple[float, float] = (float("-inf"), float("inf")),
) -> list[float]:
    """Frame by frame, for those that set out within the window."""
    return [
        (there - here) * 1000
        for here, there in zip(before, after, strict=False)
        if window[0] <= here < window[1]
    ]


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """None without any: frames that were left out or put in can't be paired."""
    if not len(values):
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {
        "p50": round(float(p50), 2),
        "p95": round(float(p95), 2),
        "p99": round(float(p99), 2),
        "max": round(float(max(values)), 2),
        "n": len(values),
    }
