"""The gate as a process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence

from personaplex_bridge import logs, signals
from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.gate import command as commands
from personaplex_bridge.gate import weights
from personaplex_bridge.gate.application import Gate
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
        helpers = [_told_first(told)]
        if command:
            helpers.append(_keep_model(settings, command, condition))
        if settings.idle_stop_minutes is not None:
            helpers.append((await stack.enter_async_context(_idle_stop())).run())
        port = await stack.enter_async_context(
            hosted(gate.application(), settings.host, settings.port)
        )
        _log.info("the gate is at http://%s:%d, the model at %s", settings.host, port, settings.model_url)
        _warn_of_open_doors(settings)
    return DONE
