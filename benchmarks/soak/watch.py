"""What the bridge process holds: measured by a process of its own, so that no call is measured
while this one reads.

    python -m benchmarks.soak.watch PID PORT

prints a line of JSON for each line it reads, with the moments since the last in which this
machine didn't let it run.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import select
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from benchmarks.processes import line_of
from benchmarks.stalls import STALL_S, TICK_S

HEALTH_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the bridge."""

    at_s: float
    """Monotonic."""
    cpu_s: float
    """Of the bridge, since its start."""
    load: float
    """The machine's load average over a minute."""
    resident_mb: float
    descriptors: int
    sockets: dict[str, int]
    """TCP, by state."""
    tasks: int
    sessions: int
    lines: dict[str, int]
    """To the model servers, by state."""
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """When the watcher itself wasn't let run, since the last look."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in progress any more, and the one line that is kept warm is."""
        in_progress = self.lines.get("busy", 0) + self.lines.get("connecting", 0)
        return self.sessions == 0 and in_progress == 0 and self.lines.get("warm", 0) == 1

    def as_json(self, since_s: float) -> dict[str, Any]:
        """For the results; times count from `since_s`."""
        told = asdict(self)
        del told["stalls"]
        return {**told, "at_s": round(self.at_s - since_s, 1)}


class Watcher:
    """Asks the watching process."""

    def __init__(self, process: Process) -> None:
        self.stalls: list[tuple[float, float]] = []
        """All that were told so far."""
        self._process = process
        self._lock = asyncio.Lock()

    async def look(self) -> Sample:
        """Look now."""
        async with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            line = await line_of(self._process)
        if not line:
            raise RuntimeError("the bridge no longer tells of its health")
        sample = Sample(**json.loads(line))
        self.stalls += [(from_s, to_s) for from_s, to_s in sample.stalls]
        return sample


def command(pid: int, port: int) -> list[str]:
    """How to start the watching process."""
    return [sys.executable, "-m", "benchmarks.soak.watch", str(pid), str(port)]


def main(pid: int, port: int) -> None:
    process = psutil.Process(pid)
    stalls: list[tuple[float, float]] = []
    while True:
        due_s = time.monotonic() + TICK_S
        asked, _, _ = select.select([sys.stdin], [], [], TICK_S)
        if (now_s := time.monotonic()) - due_s >= STALL_S:
            stalls.append((due_s, now_s))
        if asked:
            if not sys.stdin.readline():
                return
            print(json.dumps(asdict(_look(process, port, stalls))), flush=True)
            stalls = []


def _look(process: psutil.Process, port: int, stalls: list[tuple[float, float]]) -> Sample:
    # Without the connection that asks for its health, so that comes last.
    descriptors = process.num_fds()
    sockets = Counter(connection.status for connection in process.net_connections("tcp"))
    resident_bytes, cpu = process.memory_info().rss, process.cpu_times()
    health = _health(port)
    return Sample(
        time.monotonic(),
        round(cpu.user + cpu.system, 2),
        round(psutil.getloadavg()[0], 2),
        round(resident_bytes / 1e6, 2),
        descriptors,
        dict(sockets),
        health["tasks"],
        health["sessions"],
        health["lines"],
        stalls,
    )


def _health(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return json.load(connection.getresponse())
    finally:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
