"""Cost and added delay under load: the bridge in a process of its own, callers and model beside it.

Both sides talk all the time: the caller plays the recording, the model another copy of it.

The bridge is the shipped command with the shipped defaults. Phones run in this process, the
model's stand-in in another; all three share one monotonic clock, so a frame's delay is the
difference of two readings: taken by the phone right before sending, and by the model on arrival
(and the other way round). Both therefore include the operating system's own scheduling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import model_process
from benchmarks.codec import BareCodec
from benchmarks.delays import differences_ms, percentiles
from benchmarks.processes import (
    BRIDGE,
    ended,
    free_port,
    line_of,
    started,
    until_listening,
)
from personaplex_bridge.audio.files import read_as_mulaw
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.report import PhoneReport

WARM_UP_S = 4.0
SPREAD_S = 2.0
GOLDEN = 0.6180339887
"""Calls begin spread over SPREAD_S by the golden ratio, so that their 20 ms and 80 ms frames
fall anywhere, as those of real calls do, and not all together."""
TAIL_S = 1.0
ANSWER_AFTER_S = 0.3
MODEL_FRAME_S = 0.08
MAX_UNPAIRED = 0.2
"""Calls without figures of delay, because the bridge had to work off lag in them."""


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement."""

    calls: int
    seconds: float
    transcoder: str = "native"
    packets_per_page: int = 4
    words: bool = False
    """Whether the model says text, too: for those who look on."""


class NotCalm(RuntimeError):
    """Frames were left out or put in, so that they can't be paired: the machine was busy, or the
    bridge.
    """


@dataclass(frozen=True, slots=True)
class Run:
    """What a load came to. Times and delays are of the window in which all calls go on."""

    wall_s: float
    cpu_s: float
    """The bridge process's."""
    watchers_cpu_s: float
    """That of those who watch it, all of their processes."""
    idle_rss: int
    """Bytes, before the first call."""
    rss: int
    uplink_ms: list[float]
    downlink_ms: list[float]
    late_ms: list[float]
    """How late the phones sent their frames: the load generator's own trouble."""
    underruns: int
    problems: int


Watched = Callable[[str], AbstractAsyncContextManager[psutil.Process]]
"""Has a process watch the bridge at a URL inside the block."""


def check_calm(load: Load, run: Run) -> None:
    """Raises NotCalm if too many of the model's frames were not heard as they were said."""
    paired = len(run.downlink_ms) / (load.calls * run.wall_s / MODEL_FRAME_S)
    if paired < 1 - MAX_UNPAIRED:
        raise NotCalm(f"only {paired:.0%} of the model's frames were heard as they were said.")


async def measure(load: Load, sound: Path) -> dict[str, Any]:
    """Run the load; figures of the bridge process and of the delays, beside the bare codec's.

    Raises:
        NotCalm: the machine was busy, or the bridge.
    """
    run = await run_load(load, sound)
    if load.transcoder == "native":  # the cushion is at work on the other path: no pairs
        check_calm(load, run)
    codec = BareCodec(sound, load.transcoder, load.calls)
    in_a_loop, in_real_time = codec.in_a_loop(), codec.in_real_time()
    share = run.cpu_s / run.wall_s / load.calls
    return {
        "calls": load.calls,
        "seconds": round(run.wall_s, 2),
        "transcoder": load.transcoder,
        "packets_per_page": load.packets_per_page,
        "bridge_core_share_per_call_percent": round(100 * share, 3),
        "bare_codec_in_a_loop_percent": round(100 * in_a_loop, 3),
        "bare_codec_in_real_time_percent": round(100 * in_real_time, 3),
        "times_bare_codec_in_a_loop": round(share / in_a_loop, 2),
        "times_bare_codec_in_real_time": round(share / in_real_time, 2),
        "resident_mb": round(run.rss / 1e6, 1),
        "resident_mb_idle": round(run.idle_rss / 1e6, 1),
        "resident_mb_per_call": round((run.rss - run.idle_rss) / 1e6 / load.calls, 3),
        "uplink_ms": percentiles(run.uplink_ms),
        "downlink_ms": percentiles(run.downlink_ms),
        "underruns": run.underruns,
        "problems": run.problems,
        "generator_late_ms": percentiles(run.late_ms),
    }


async def run_load(load: Load, sound: Path, watched: Watched | None = None, **environ: str) -> Run:
    """Run the load once, against a bridge of its own with settings of `environ` beside the shipped
    ones.
    """
    async with contextlib.AsyncExitStack() as stack:
        return await _run(load, sound, watched, environ, stack)


async def _run(
    load: Load,
    sound: Path,
    watched: Watched | None,
    environ: Mapping[str, str],
    stack: contextlib.AsyncExitStack,
) -> Run:
    speech = read_as_mulaw(sound)
    command = model_process.command(sound, servers=1, capacity=load.calls, words=load.words)
    model = await stack.enter_async_context(started(command))
    model_port = int(await line_of(model))
    bridge, url = await stack.enter_async_context(_bridge(load, model_port, environ))
    process = psutil.Process(bridge.pid)
    watching = await stack.enter_async_context(contextlib.AsyncExitStack())
    watcher = None if watched is None else await watching.enter_async_context(watched(url))
    idle_rss = process.memory_info().rss
    length_s = WARM_UP_S + SPREAD_S + load.seconds + TAIL_S
    calls = [
        asyncio.create_task(_phone(url, speech, number, load.calls, length_s))
        for number in range(load.calls)
    ]
    await asyncio.sleep(WARM_UP_S + SPREAD_S)
    before_s, watchers_before_s, began = cpu_s(process), _tree_cpu_s(watcher), time.monotonic()
    await asyncio.sleep(load.seconds)
    cpu, wall = cpu_s(process) - before_s, time.monotonic() - began
    watchers_cpu = _tree_cpu_s(watcher) - watchers_before_s
    rss = process.memory_info().rss
    await watching.aclose()
    reports = await asyncio.gather(*calls)
    await ended(bridge)
    told = [json.loads(line) for line in (await ended(model)).splitlines()]
    seen = [session for session in told if "prompt" in session]
    window = (began, began + wall)
    uplink, downlink = _delays_ms(reports, seen, window)
    return Run(
        wall_s=wall,
        cpu_s=cpu,
        watchers_cpu_s=watchers_cpu,
        idle_rss=idle_rss,
        rss=rss,
        uplink_ms=uplink,
        downlink_ms=downlink,
        late_ms=_lateness_ms(reports, window),
        underruns=sum(report.underruns for report in reports),
        problems=sum(len(report.problems) for report in reports),
    )


@contextlib.asynccontextmanager
async def _bridge(
    load: Load, model_port: int, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Process, str]]:
    """The shipped command, and where it listens."""
    port = free_port()
    settings = {
        "PERSONAPLEX_URL": model_process.addresses(model_port, servers=1),
        "PERSONAPLEX_CAPACITY": str(load.calls),
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "TRANSCODER": load.transcoder,
        "PACKETS_PER_PAGE": str(load.packets_per_page),
        "LOG_LEVEL": "WARNING",
        "TWILIO_AUTH_TOKEN": "",
    }
    async with started(BRIDGE, None, None, **{**settings, **environ}) as bridge:
        await until_listening(port)
        yield bridge, f"http://127.0.0.1:{port}"


async def _phone(url: str, speech: bytes, number: int, calls: int, length_s: float) -> PhoneReport:
    wait_s = SPREAD_S * (number * GOLDEN % 1)
    await asyncio.sleep(wait_s)
    begin = len(speech) * number // calls // 160 * 160
    plan = CallPlan(
        f"{url}/voice/inbound?text_prompt=call+{number}",
        (speech[begin:] + speech[:begin]) * (1 + int(length_s * 8000 / len(speech))),
        hang_up_after_s=length_s - wait_s,
        # The model is ready before the stream comes, so that every frame goes to it and frames
        # can be paired by their place.
        faults=CallFaults(answer_after_s=ANSWER_AFTER_S),
    )
    return await PhoneCall(plan).run()


def _delays_ms(
    reports: list[PhoneReport], seen: list[dict[str, Any]], window: tuple[float, float]
) -> tuple[list[float], list[float]]:
    """Uplink: the frame that completes a model frame, phone to model. Downlink: the reverse."""
    uplink: list[float] = []
    downlink: list[float] = []
    by_prompt = {session["prompt"]: session for session in seen}
    unpaired = 0
    for number, report in enumerate(reports):
        session = by_prompt[f"call {number}"]
        # Frames are paired by their place: right only if none was left out or put in to keep the
        # conversation in time. (The last may be cut off by the hang-up.)
        frames_in = len(session["heard_at"])
        if not 0 <= len(report.sent_at) // 4 - frames_in <= 1:
            unpaired += 1
            continue
        completing = report.sent_at[3::4]
        uplink += differences_ms(completing, session["heard_at"], window)
        if abs(len(session["said_at"]) - len(report.media_at)) <= 1:
            heard = differences_ms(session["said_at"], report.media_at, window)
            # Nothing is heard before it is said: then a frame was put in.
            downlink += heard if min(heard, default=0.0) >= 0 else []
    if unpaired > len(reports) * MAX_UNPAIRED:
        raise NotCalm(f"{unpaired} of {len(reports)} calls were not calm: a busy machine?")
    return uplink, downlink


def _lateness_ms(reports: list[PhoneReport], window: tuple[float, float]) -> list[float]:
    """How late the phones sent their frames: the load generator's own trouble."""
    late = []
    for report in reports:
        times = np.array(report.sent_at)
        due = times[0] + 0.02 * np.arange(len(times))
        inside = (times >= window[0]) & (times < window[1])
        late += list((times - due)[inside] * 1000)
    return late


def cpu_s(process: psutil.Process) -> float:
    """What a process has computed, in the kernel too."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree_cpu_s(process: psutil.Process | None) -> float:
    """A process's and that of those it has started, which go on."""
    if process is None:
        return 0.0
    total_s = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total_s += cpu_s(one)
    return total_s
