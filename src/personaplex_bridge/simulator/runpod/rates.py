"""How many requests a key may make: windows of fixed length, as RunPod's headers describe them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from personaplex_bridge.simulator.runpod.problems import Problem


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests in so many seconds."""

    window: str
    requests: int
    seconds: float


QUOTAS = (Quota("minute", 60, 60), Quota("hour", 3000, 3600), Quota("day", 50_000, 86_400))
"""Of the contract's example."""


class Rates:
    """Counts one key's requests. Times are of any monotonic clock, in seconds."""

    def __init__(self, quotas: tuple[Quota, ...]) -> None:
        self._quotas = quotas
        self._used = [(0.0, 0)] * len(quotas)

    def count(self, now: float) -> dict[str, str]:
        """One more request; gives the headers of its answer.

        Raises:
            Problem: 429, one too many.
        """
        over: Quota | None = None
        for index, quota in enumerate(self._quotas):
            begun, used = self._used[index]
            if used == 0 or now - begun >= quota.seconds:
                begun, used = now, 0
            if used >= quota.requests:
                over = over or quota
            self._used[index] = begun, used + 1
        headers = self._headers(now)
        if over is None:
            return headers
        left_s = self._left(self._quotas.index(over), now)
        retry = {"Retry-After": str(max(1, math.ceil(left_s)))}
        detail = f"rate limit exceeded for the {over.window} window"
        raise Problem(429, detail, headers=headers | retry)

    def _left(self, index: int, now: float) -> float:
        return self._quotas[index].seconds - (now - self._used[index][0])

    def _headers(self, now: float) -> dict[str, str]:
        live = (
            f'"{quota.window}";r={max(0, quota.requests - used)};t={math.ceil(self._left(at, now))}'
            for at, (quota, (_, used)) in enumerate(zip(self._quotas, self._used, strict=True))
        )
        policy = (
            f'"{quota.window}";q={quota.requests};w={quota.seconds:g}' for quota in self._quotas
        )
        return {"RateLimit": ", ".join(live), "RateLimit-Policy": ", ".join(policy)}
