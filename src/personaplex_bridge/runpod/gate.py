"""Asking a pod's gate how far the model is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from personaplex_bridge.values import LOOPBACK_HOSTS

ASK_TIMEOUT_S = 10.0

WEIGHTS_BYTES = 16_700_000_000
"""What is downloaded at the first start, unless the gate says more precisely."""

MAX_REPORT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class GateState:
    """What `/healthz` says. Numbers are there only for who has the token."""

    status: str
    """idle, busy, loading, failed; or silent: nothing that a gate would say."""

    detail: str = ""
    stage: str = ""
    """While loading: starting, downloading or warming."""

    done_bytes: int | None = None
    of_bytes: int = WEIGHTS_BYTES
    step_ms: float | None = None
    """Median of the model's steps; it has 80 ms for each."""

    step_p95_ms: float | None = None
    keeps_up: bool | None = None
    token_fits: bool | None = None
    """None: none was shown, or the gate doesn't tell."""

    @property
    def is_up(self) -> bool:
        """It takes calls."""
        return self.status in ("idle", "busy")

    def __str__(self) -> str:
        """For people."""
        if self.stage == "downloading" and self.done_bytes is not None:
            share = min(100.0, 100 * self.done_bytes / self.of_bytes)
            done, whole = self.done_bytes / 1e9, self.of_bytes / 1e9
            return f"downloading the weights: {share:.0f} % ({done:.1f} of {whole:.1f} GB)"
        if self.stage == "warming":
            return "warming: the model is being loaded and compiled"
        if self.status == "silent":
            return f"the gate doesn't answer yet{f' ({self.detail})' if self.detail else ''}"
        return f"{self.status}: {self.detail}" if self.detail else self.status


async def ask_gate(http: aiohttp.ClientSession, url: str, token: str) -> GateState:
    """The state of the gate at `url`, a PERSONAPLEX_URL. Raises nothing: it may be down."""
    status, report = await _get(http, url, token)
    if status == 401 and token:
        status, report = await _get(http, url, "")
        return _state(status, report, False)
    fits = "sessions_served" in report if token and report else None
    return _state(status, report, fits)


def gate_session(proxy_url: str) -> aiohttp.ClientSession:
    """A session for asking; goes through the environment's proxies, except on this machine."""
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    return aiohttp.ClientSession(
        timeout=timeout, trust_env=urlsplit(proxy_url).hostname not in LOOPBACK_HOSTS
    )


async def _get(
    http: aiohttp.ClientSession, url: str, token: str
) -> tuple[int | None, Mapping[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with http.get(f"{url}/healthz", headers=headers, allow_redirects=False) as response:
            text = b"".join([piece async for piece in _start(response)])
    except (aiohttp.ClientError, TimeoutError):
        return None, {}
    try:
        report = json.loads(text)
    except ValueError:  # the proxy's own page
        return response.status, {}
    return response.status, report if isinstance(report, dict) else {}


async def _start(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body, as far as MAX_REPORT_BYTES."""
    left = MAX_REPORT_BYTES
    async for piece in response.content.iter_chunked(left):
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _state(status: int | None, report: Mapping[str, Any], fits: bool | None) -> GateState:
    said = report.get("status")
    if status not in (200, 503) or said not in ("idle", "busy", "loading", "failed"):
        return GateState("silent", "" if status is None else f"HTTP {status}", token_fits=fits)
    steps = report.get("step_ms")
    steps = steps if isinstance(steps, dict) else {}
    keeps_up = report.get("keeps_up")
    return GateState(
        status=said,
        detail=one_line(str(report.get("detail") or "")),
        stage=str(report.get("stage") or ""),
        done_bytes=_whole(report.get("downloaded_bytes", report.get("bytes"))),
        of_bytes=_whole(report.get("of_bytes")) or WEIGHTS_BYTES,
        step_ms=_number(steps.get("median")),
        step_p95_ms=_number(steps.get("p95")),
        keeps_up=keeps_up if isinstance(keeps_up, bool) else None,
        token_fits=fits,
    )


def one_line(text: str, longest: int = 300) -> str:
    """A text of a stranger's, fit for a terminal: no control characters, not too long."""
    return "".join(char if char.isprintable() else " " for char in text)[:longest].strip()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
