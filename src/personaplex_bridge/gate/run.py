"""The gate as a process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence

from personaplex_bridge import logs, signals
from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.gate import weights
from personaplex_bridge.gate.application import HEALTH_PATH, Gate
from personaplex_bridge.gate.command import run_until_it_ends
from personaplex_bridge.gate.condition import Condition, Failed
from personaplex_bridge.gate.idle import IdleStop
from personaplex_bridge.gate.meters import Meters
from personaplex_bridge.gate.settings import GateSettings
from personaplex_bridge.gate.watching import Watch
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.values import LOOPBACK_HOSTS
from personaplex_bridge.web.hosting import hosted

DONE, FAILED = 0, 1

_log = logging.getLogger(f"{logs.NAME}.gate")


async def run_gate(settings: GateSettings, command: Sequence[str] = ()) -> int:
    """Stand before the model server, started here if there is a `command`; returns the exit code.

    A model that has failed ends the gate with 1, but not in a RunPod pod: there a container that
    ends is started again and again, and nobody learns why. It stays, and says so.

    Raises:
        ConfigError: the address can't be listened on.
    """
    condition, meters = Condition(), Meters(SYSTEM_CLOCK)
    gate = Gate(settings, condition, meters)
    watch = Watch(condition, settings.model_url, settings.hf_home, lambda: gate.is_busy)
    gate.on_model_gone = watch.look_now
    async with contextlib.AsyncExitStack() as stack:
        told = stack.enter_context(signals.heard())
        site = hosted(gate.application(), settings.host, settings.port)
        _tell(settings, await stack.enter_async_context(site))
        async with asyncio.TaskGroup() as tasks:
            stopped = tasks.create_task(told.get(), name="gate-signal")
            failed = tasks.create_task(_has_failed(settings, command, condition), name="gate-model")
            helpers = [tasks.create_task(watch.run(), name="gate-watch")]
            if settings.idle_stop_minutes is not None:
                idle = _stop_when_idle(settings, meters, condition)
                helpers.append(tasks.create_task(idle, name="gate-idle-stop"))
            await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
            code = FAILED if failed.done() else DONE
            await gate.stop()  # while the model is still there
            for task in (stopped, failed, *helpers):
                task.cancel()
    return code


async def _has_failed(settings: GateSettings, command: Sequence[str], condition: Condition) -> None:
    """Run the model server, if that is ours to do. Returns when it has failed, and the gate is to
    end.
    """
    if command:
        problem = await weights.problem_with(settings)
        if problem is None:
            problem = await run_until_it_ends(command, os.environ)
        condition.set(Failed(problem))
        if not settings.runpod_pod_id:
            return
        _log.error(
            "the gate stays, so that %s can tell why; restart the pod when it is mended",
            HEALTH_PATH,
        )
    await asyncio.Event().wait()


async def _stop_when_idle(settings: GateSettings, meters: Meters, condition: Condition) -> None:
    minutes = settings.idle_stop_minutes
    assert minutes is not None  # noqa: S101 - asked for
    _log.info("this pod is stopped when nobody has called for %g minutes", minutes)
    async with RunPod(settings.runpod_api_key, settings.runpod_api_url) as runpod:
        pod = settings.runpod_pod_id
        await IdleStop(runpod, pod, 60 * minutes, meters, condition).run()


def _tell(settings: GateSettings, port: int) -> None:
    """Where the gate is; and loudly, which is at every LOG_LEVEL, that it is open."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    _log.info("the gate listens on http://%s:%d, the model: %s", host, port, settings.model_url)
    if settings.tokens:
        return
    if settings.host in LOOPBACK_HOSTS:
        _log.warning("GATE_TOKEN is not set: anyone on this machine can use the model")
    else:
        _log.critical(
            "GATE_TOKEN is not set, so NOBODY IS ASKED WHO THEY ARE: anyone who reaches %s can use "
            "the model (GATE_ALLOW_ANYONE)",
            settings.host,
        )
