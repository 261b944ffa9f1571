"""A RunPod account on this machine, whose pods run a gate that says what a test wants.

With RUNPOD_OPENAPI=FILE in the environment (and the `jsonschema` package), every request of these
tests is also checked against that OpenAPI document.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.runpod.description import PodDescription, parse_description
from personaplex_bridge.runpod.requests import Patience
from personaplex_bridge.runpod.settings import RunPodSettings
from personaplex_bridge.simulator.runpod import KEY, Holdings, Options, Pace, Quota, RunPodServer
from personaplex_bridge.web.hosting import hosted

LIMIT_S = 30.0
"""For what takes a fraction of a second on a calm machine."""

HASTY = Patience(request_s=10.0, attempts=4, total_s=20.0, first_pause_s=0.01, longest_pause_s=0.05)

FAST = Pace(scale=1000.0)

AMPLE = (Quota("minute", 100_000, 60),)

RTX_4090, RTX_3090, A5000 = "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090", "NVIDIA RTX A5000"

TOKEN = "a-token-of-the-gate"

OPENAPI = Path(os.environ["RUNPOD_OPENAPI"]) if "RUNPOD_OPENAPI" in os.environ else None


class FakeGate:
    """The container of a pod: answers /healthz as `reports` say, the last one for ever."""

    def __init__(self, *reports: Mapping[str, Any]) -> None:
        self.reports = list(reports or [{"status": "idle"}])
        self.environments: list[Mapping[str, str]] = []
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def __call__(self, env: Mapping[str, str]) -> AsyncIterator[str]:
        self.environments.append(env)
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        async with hosted(app, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}"

    async def _health(self, request: web.Request) -> web.Response:
        self.asked.set()
        if request.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            return web.json_response({"error": "unauthorized"}, status=401)
        report = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        up = report.get("status") in ("idle", "busy")
        return web.json_response(dict(report), status=200 if up else 503)


@dataclass(slots=True)
class Told:
    """What was told of the progress."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    when: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What to do once a stage is told of."""

    def __call__(self, stage: str, line: str) -> None:
        self.lines.append((stage, line))
        if stage in self.when:
            self.when.pop(stage)()

    def of(self, stage: str) -> list[str]:
        return [line for its, line in self.lines if its == stage]

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, _ in self.lines))


@dataclass(frozen=True, slots=True)
class Scene:
    """A stand-in at an address, and a client of it."""

    server: RunPodServer
    runpod: RunPod
    url: str
    settings: RunPodSettings

    def asked(self, method: str, path: str) -> int:
        """How often a path was asked for."""
        return sum(
            asked == method and its.partition("?")[0] == path for asked, its in self.server.requests
        )


@asynccontextmanager
async def account(
    gate: Any = None,
    holdings: Holdings | None = None,
    pace: Pace = FAST,
    quotas: tuple[Quota, ...] = AMPLE,
    patience: Patience = HASTY,
    token: str = TOKEN,
    **options: Any,
) -> AsyncIterator[Scene]:
    container = gate or FakeGate()
    options = {"openapi": OPENAPI, **options}
    chosen = Options(pace=pace, quotas=quotas, container=container, **options)
    server = RunPodServer(chosen, holdings)
    async with hosted(server.application(), "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        settings = RunPodSettings(KEY, url, f"{url}/proxy/{{pod_id}}-{{port}}", token)
        async with RunPod(KEY, url, patience=patience) as runpod:
            yield Scene(server, runpod, url, settings)


def described(**changes: Any) -> PodDescription:
    """A description, with some keys changed; tables are merged."""
    document: dict[str, Any] = {
        "name": "mine",
        "image": "ghcr.io/you/personaplex:1",
        "gpu": {"types": [RTX_4090, RTX_3090]},
        "storage": {"persistent": {"size_gb": 40, "path": "/workspace"}},
        "env": {"GATE_TOKEN": "{{ RUNPOD_SECRET_PERSONAPLEX_TOKEN }}"},
    }
    for name, value in changes.items():
        both = isinstance(value, dict) and name != "storage"
        document[name] = {**document.get(name, {}), **value} if both else value
    return parse_description(document, "pod.toml")


def body(**changes: Any) -> dict[str, Any]:
    """A request for a pod."""
    return {
        "name": "mine",
        "image": "ghcr.io/you/personaplex:1",
        "gpu": {"id": RTX_4090, "count": 1},
        "ports": ["8998/http"],
        **changes,
    }


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that is under way."""
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.005)
