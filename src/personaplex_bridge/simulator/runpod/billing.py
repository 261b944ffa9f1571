"""What pods have cost: a meter for each, read out in buckets of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

DISK_USD_PER_GB_HOUR = 0.0001
"""The stand-in's own figure; the contract names none."""

_AMOUNTS = ("totalAmount", "gpuAmount", "cpuAmount", "diskAmount")


@dataclass(slots=True)
class Meter:
    """What one pod costs: stretches of time with the GPU's price, in USD an hour."""

    pod_id: str
    stored_gb: int
    made: datetime
    deleted: datetime | None = None
    runs: list[tuple[datetime, datetime | None, float]] = field(default_factory=list)

    def start(self, now: datetime, price: float) -> None:
        """The pod has its GPU from now on."""
        self.runs.append((now, None, price))

    def stop(self, now: datetime) -> None:
        """It has it no longer."""
        if self.runs and self.runs[-1][1] is None:
            self.runs[-1] = self.runs[-1][0], now, self.runs[-1][2]

    def record(self, start: datetime, end: datetime, now: datetime) -> dict[str, Any] | None:
        """The record of one bucket, or None: the pod was not there."""
        stored_h = _hours(self.made, self.deleted or now, start, end)
        if stored_h <= 0:
            return None
        gpu = sum(_hours(a, b or now, start, end) * price for a, b, price in self.runs)
        disk = stored_h * self.stored_gb * DISK_USD_PER_GB_HOUR
        amounts = dict(zip(_AMOUNTS, (gpu + disk, gpu, 0.0, disk), strict=True))
        return {
            "startTime": rfc3339(start),
            "endTime": rfc3339(end),
            "podId": self.pod_id,
            **amounts,
        }


def buckets(start: datetime, end: datetime, size: str) -> Iterator[tuple[datetime, datetime]]:
    """The buckets that cover this time, aligned to their boundaries."""
    at = floor(start, size)
    while at < end:
        following = floor(at + _STEP[size], size)
        yield at, following
        at = following


def last(count: int, size: str, now: datetime) -> datetime:
    """Where the earliest of the last `count` buckets begins; the last one is in progress."""
    at = floor(now, size)
    for _ in range(count - 1):
        at = floor(at - timedelta(seconds=1), size)
    return at


def floor(moment: datetime, size: str) -> datetime:
    """Where the bucket begins that this moment is in."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match size:
        case "hour":
            return day.replace(hour=moment.hour)
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case _:
            return day


def totals(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """The sums of all amounts."""
    kept = list(records)
    return {amount: sum(record[amount] for record in kept) for amount in _AMOUNTS}


def rfc3339(moment: datetime) -> str:
    """Whole seconds in UTC, as RunPod writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# From the beginning of a bucket into the next one, wherever it is.
_STEP = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}


def _hours(a: datetime, b: datetime, start: datetime, end: datetime) -> float:
    """How long a stretch of time lies within a bucket."""
    return max(0.0, (min(b, end) - max(a, start)).total_seconds() / 3600)
