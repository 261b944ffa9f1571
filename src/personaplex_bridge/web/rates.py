"""How often an address may ask: a token bucket for each, in a table that is bounded."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from personaplex_bridge.clock import Clock

MAX_ADDRESSES = 10_000
"""Whoever was silent for longest is forgotten; their bucket is the fullest."""

IPV6_PREFIX = 64
"""One customer of a provider has at least so large a network, and may change addresses in it."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class RateLimit:
    """Lets each address through `rate` times a second, and `burst` times at once (as many as in a
    second, if that isn't given).
    """

    def __init__(self, rate: float, clock: Clock, burst: int | None = None) -> None:
        self._rate = rate
        self._burst = rate if burst is None else burst
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}  # who was silent for longest first

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._buckets)

    def take(self, address: str) -> float:
        """Ask for one turn: 0, or the seconds until there is one again."""
        key = _key(address)
        bucket = self._filled(key)
        self._buckets.pop(key, None)
        while len(self._buckets) >= MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return 0.0

    def wait_s(self, address: str) -> float:
        """What `take` would say, without taking a turn."""
        return max(0.0, (1 - self._filled(_key(address)).tokens) / self._rate)

    def _filled(self, key: str) -> _Bucket:
        now_s = self._clock.now()
        bucket = self._buckets.get(key)
        if bucket is None:
            return _Bucket(self._burst, now_s)
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.filled_s) * self._rate)
        bucket.filled_s = now_s
        return bucket


def _key(address: str) -> str:
    try:
        network = ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False)
    except ValueError:
        return address
    return str(network)
