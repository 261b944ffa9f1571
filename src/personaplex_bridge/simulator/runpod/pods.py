"""A pod of the stand-in: its state, its life as a task, its log."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from personaplex_bridge.simulator.runpod.billing import Meter, rfc3339
from personaplex_bridge.simulator.runpod.stock import Gpu

RunPodContainer: TypeAlias = Callable[[Mapping[str, str]], AbstractAsyncContextManager[str]]
"""Takes a container's environment, and runs it for the block; gives the URL of its HTTP port."""

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "PROVISIONING": ("stop", "terminate"),
    "STARTING": ("stop", "terminate"),
    "RUNNING": ("stop", "restart", "terminate"),
    "EXITED": ("start", "terminate"),
    "ERROR": ("start", "terminate"),
    "TERMINATED": (),
}
"""What each state allows (podAction)."""

HAS_GPU = frozenset({"PROVISIONING", "STARTING", "RUNNING", "ERROR"})
"""In all states but these a pod's cost is 0: EXITED and TERMINATED (`Pod.cost`)."""

MAX_LOG_LINES = 5000

_SECRET = re.compile(r"\{\{ ?RUNPOD_SECRET_(\w+) ?\}\}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a log. Its id is what the stream can be resumed from."""

    id: str
    time: str
    source: str
    line: str


class Log:
    """A pod's log; readers wait for `grown`."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.grown = asyncio.Event()
        self.closed = False
        self._count = 0

    def add(self, now: datetime, source: str, line: str) -> None:
        """One more line."""
        self._count += 1
        moment = rfc3339(now)
        self.entries.append(Entry(f"{moment}/{self._count:012d}", moment, source, line))
        del self.entries[:-MAX_LOG_LINES]
        self._wake()

    def close(self) -> None:
        """No more lines."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()


@dataclass(slots=True)
class PodState:
    """A pod as the account keeps it. `base_url` is where its container answers, while it does."""

    id: str
    body: Mapping[str, Any]
    gpu: Gpu
    cloud: str
    data_center: str
    created: datetime
    meter: Meter
    log: Log = field(default_factory=Log)
    status: str = "PROVISIONING"
    started: datetime | None = None
    base_url: str | None = None
    life: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """GPUs."""
        return int(self.body["gpu"].get("count", 1))

    @property
    def price(self) -> float:
        """USD an hour while it has its GPUs."""
        return self.gpu.price[self.cloud] * self.count

    def entry(self, now: datetime) -> dict[str, Any]:
        """As the API shows it."""
        running = self.status == "RUNNING" and self.started is not None
        body = self.body
        return {
            "id": self.id,
            "name": body["name"],
            "image": body["image"],
            "args": body.get("args", ""),
            "disk": body.get("disk", 20),
            "ports": body.get("ports", []),
            "env": body.get("env", {}),
            "registry": body.get("registry"),
            "status": self.status,
            "actions": list(ACTIONS[self.status]),
            "mounts": body.get("mounts", {}),
            "gpu": {"id": self.gpu.id, "count": self.count},
            "cloud": self.cloud,
            "dataCenterId": self.data_center,
            "cudaVersion": self.gpu.cuda[-1],
            "ssh": {"proxy": None, "direct": None},
            "template": None,
            "cost": self.price if self.status in HAS_GPU else 0.0,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": self._runtime(now) if running else None,
            "createdAt": rfc3339(self.created),
            "startedAt": rfc3339(self.started) if self.started else None,
        }

    def _runtime(self, now: datetime) -> dict[str, Any]:
        assert self.started is not None  # noqa: S101 - asked before
        ports = [port.partition("/") for port in self.body.get("ports", [])]
        return {
            "uptime": int((now - self.started).total_seconds()),
            "gpus": [{"util": 0, "memoryUtil": 0}] * self.count,
            "cpu": {"util": 1},
            "memory": {"util": 1},
            "ports": [
                {"private": int(number), "public": None, "type": kind, "ip": None}
                for number, _, kind in ports
            ],
        }

    def environment(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """What its container sees. A secret that doesn't exist stays as it was written."""

        def fill(match: re.Match[str]) -> str:
            return secrets.get(match[1], match[0])

        given = {name: _SECRET.sub(fill, value) for name, value in self.body.get("env", {}).items()}
        return {
            **given,
            "RUNPOD_POD_ID": self.id,
            "RUNPOD_DC_ID": self.data_center,
            "RUNPOD_GPU_COUNT": str(self.count),
        }


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a pod's stages last, in seconds of its own time; `scale` of them pass in one."""

    scale: float = 1.0
    provisioning_s: float = 8.0
    pulling_s: float = 40.0
    layers: int = 8

    async def wait(self, seconds: float) -> None:
        """Let so much of the pods' time pass."""
        await asyncio.sleep(seconds / self.scale)


@contextlib.asynccontextmanager
async def nothing(_env: Mapping[str, str]) -> Any:
    """A container that answers nothing."""
    yield ""


async def live(
    pod: PodState,
    pace: Pace,
    container: RunPodContainer,
    secrets: Mapping[str, str],
    now: Callable[[], datetime],
) -> None:
    """A pod's way from its allocation to its end, which is the task's."""

    def say(source: str, line: str) -> None:
        pod.log.add(now(), source, line)

    await pace.wait(pace.provisioning_s)
    pod.status = "STARTING"
    image = pod.body["image"]
    say("system", f"create container {image}")
    for layer in range(1, pace.layers + 1):
        await pace.wait(pace.pulling_s / pace.layers)
        if image.startswith("bad/"):
            say("system", f"error pulling image: {image} not found")
            _fail(pod)
            return
        say("system", f"{image}: pulled layer {layer} of {pace.layers}")
    say("system", "start container")
    try:
        async with container(pod.environment(secrets)) as pod.base_url:
            pod.status, pod.started = "RUNNING", now()
            say("container", "started")
            await asyncio.Event().wait()
    except Exception as error:
        say("container", f"{type(error).__name__}: {error}")
        _fail(pod)
    finally:
        pod.base_url = None


def _fail(pod: PodState) -> None:
    if pod.status in HAS_GPU:  # and was not stopped meanwhile
        pod.status = "ERROR"
