"""What the gate costs and how much later frames come for it.

Two callers talk at the same time, all the time, to two stand-ins for the model in one process: one
through a gate, which is a process of its own (the shipped command), the other without. All share
one monotonic clock, so a frame's delay is the difference of two readings, from right before it is
sent to its arrival; what the gate adds is the difference of the two callers'.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import connect

from benchmarks import model_process
from benchmarks.delays import differences_ms, percentiles
from benchmarks.processes import ended, free_port, line_of, started, until_listening
from personaplex_bridge.audio.files import read_as_mulaw
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.personaplex.voices import Role, chat_url

FRAME_S = 0.08
FRAME_BYTES = 640
WARM_UP_S = 2.0
TOKEN = "benchmark-benchmark"
_AS_IN_THE_IMAGE = """\
import sys
sys.modules["uvloop"] = None
from personaplex_bridge.cli import main
sys.exit(main(["gate"]))
"""
GATE = [sys.executable, "-c", _AS_IN_THE_IMAGE]
"""The shipped command, on asyncio's own event loop: uvloop isn't in the gate's image."""
HEADERS = 3
"""Messages of the model before its first frame: handshake, OpusHead, OpusTags."""


@dataclass
class Call:
    """When one caller's frames were sent and those of the model arrived."""

    name: str
    url: str
    sent_at: list[float] = field(default_factory=list)
    heard_at: list[float] = field(default_factory=list)

    async def run(self, speech: bytes, frames: int, begin_s: float) -> None:
        """Talk for so many frames, from a reading of the clock on."""
        uplink = make_uplink("native")
        role = Role("NATF2", self.name)
        async with connect(
            chat_url(self.url, role),
            additional_headers={"Authorization": f"Bearer {TOKEN}"},
            compression=None,
            ping_interval=None,
        ) as socket:
            for _ in range(HEADERS):
                await socket.recv()
            await socket.send(b"\x01" + uplink.headers())
            listening = asyncio.create_task(self._listen(socket, frames))
            for number in range(frames):
                begin = number * FRAME_BYTES % (len(speech) - FRAME_BYTES)
                (page,) = uplink.feed(speech[begin : begin + FRAME_BYTES])
                await asyncio.sleep(max(0.0, begin_s + number * FRAME_S - time.monotonic()))
                self.sent_at.append(time.monotonic())
                await socket.send(b"\x01" + page)
            await asyncio.wait_for(listening, 5.0)

    async def _listen(self, socket: Any, frames: int) -> None:
        while len(self.heard_at) < frames:
            message = await socket.recv()
            if message[:1] == b"\x01":
                self.heard_at.append(time.monotonic())


async def measure(seconds: float, sound: Path) -> dict[str, Any]:
    """Run both calls; the gate's cost, and the delays of both."""
    async with contextlib.AsyncExitStack() as stack:
        command = model_process.command(sound, servers=2, capacity=1)
        model = await stack.enter_async_context(started(command))
        servers = model_process.addresses(int(await line_of(model)), servers=2).split(",")
        port = free_port()
        settings = {
            "GATE_HOST": "127.0.0.1",
            "GATE_PORT": str(port),
            "GATE_TOKEN": TOKEN,
            "GATE_MODEL_URL": servers[0].replace("ws:", "http:"),
            "LOG_LEVEL": "WARNING",
        }
        gate = await stack.enter_async_context(started(GATE, None, None, **settings))
        await until_listening(port)
        await asyncio.sleep(2.0)  # it looks once a second whether the model is up
        through = Call("through", f"ws://127.0.0.1:{port}/api/chat")
        direct = Call("direct", f"{servers[1]}/api/chat")
        cost = await _run(through, direct, read_as_mulaw(sound), seconds, psutil.Process(gate.pid))
        await ended(gate)
        told = [json.loads(line) for line in (await ended(model)).splitlines()]
    sessions = {session["prompt"]: session for session in told if "prompt" in session}
    return cost | _delays([through, direct], sessions)


async def _run(
    through: Call, direct: Call, speech: bytes, seconds: float, gate: psutil.Process
) -> dict[str, Any]:
    frames = round((seconds + WARM_UP_S) / FRAME_S)
    begin_s = time.monotonic() + 1.0
    talking = [
        asyncio.create_task(through.run(speech, frames, begin_s)),
        asyncio.create_task(direct.run(speech, frames, begin_s + FRAME_S / 2)),
    ]
    await asyncio.sleep(1.0 + WARM_UP_S)
    cpu_before_s, before_s = _cpu_s(gate), time.monotonic()
    await asyncio.sleep(seconds - 1.0)
    cpu_s, wall_s = _cpu_s(gate) - cpu_before_s, time.monotonic() - before_s
    memory = gate.memory_info().rss
    await asyncio.gather(*talking)
    return {
        "seconds": round(wall_s, 2),
        "gate_cpu_ms_per_call_second": round(1000 * cpu_s / wall_s, 3),
        "gate_cpu_ms_per_frame": round(1000 * cpu_s / wall_s * FRAME_S, 4),
        "resident_mb": round(memory / 1e6, 1),
    }


def _delays(calls: list[Call], sessions: dict[str, Any]) -> dict[str, Any]:
    skipped = round(WARM_UP_S / FRAME_S)
    result: dict[str, Any] = {}
    for call in calls:
        session = sessions[call.name]
        up = differences_ms(call.sent_at, session["heard_at"])[skipped:]
        down = differences_ms(session["said_at"], call.heard_at)[skipped:]
        result[call.name] = {"uplink_ms": percentiles(up), "downlink_ms": percentiles(down)}
    through, direct = (result[call.name] for call in calls)
    result["added"] = {
        way: {at: round(through[way][at] - direct[way][at], 2) for at in ("p50", "p99")}
        for way in ("uplink_ms", "downlink_ms")
    }
    return result


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
