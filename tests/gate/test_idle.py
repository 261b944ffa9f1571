"""Stopping the pod when nobody calls, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from personaplex_bridge.gate.condition import Failed, Up
from personaplex_bridge.gate.idle import MAX_PAUSE_S, IdleStop
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.web.hosting import hosted
from tests.gate.harness import Caller, RunningGate, client, gate_and_model, gate_to
from tests.live.harness import CLOCK, HOST
from tests.logged import logged
from tests.virtual import in_virtual_time

IDLE_S = 600.0
KEY = "rpa_secret"
QUICK = ModelOptions("tone", prompt_ms=100, step_ms=0)


@dataclass
class Api:
    """RunPod's API as far as stopping one pod needs it; anything else is refused."""

    status: int = 200
    asked_s: list[float] = field(default_factory=list)

    async def act(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert await request.json() == {"action": "stop"}
        self.asked_s.append(CLOCK.now())
        if self.status != 200:
            body = {"title": "no", "status": self.status, "detail": "not now"}
            return web.Response(
                status=self.status,
                text=json.dumps(body),
                content_type="application/problem+json",
            )
        return web.json_response(
            {
                **{"id": "abc", "name": "x", "image": "x", "status": "EXITED"},
                **{"actions": ["start"], "cost": 0.0, "runtime": None, "cloud": "SECURE"},
                "createdAt": "2026-11-21T00:00:00Z",
            }
        )


@asynccontextmanager
async def watched(gate: RunningGate, status: int = 200) -> AsyncIterator[Api]:
    """The gate's pod is stopped when it is idle for ten minutes."""
    api, app = Api(status), web.Application()
    app.router.add_post("/v2/pods/abc/action", api.act)
    async with hosted(app, HOST, 0) as port, RunPod(KEY, f"http://{HOST}:{port}") as runpod:
        stop = IdleStop(runpod, "abc", IDLE_S, gate.meters, gate.condition)
        task = asyncio.create_task(stop.run())
        try:
            yield api
        finally:
            task.cancel()
            await asyncio.wait({task})


@in_virtual_time
async def test_a_connection_alone_is_no_call() -> None:
    async with gate_and_model(QUICK) as (gate, _), watched(gate) as api:
        began = CLOCK.now()
        async with client(gate) as connection:
            assert await connection.recv() == b"\x00"
            await asyncio.sleep(IDLE_S + 1)
            assert gate.gate.is_busy
        assert [round(at - began) for at in api.asked_s] == [IDLE_S]


@in_virtual_time
async def test_a_callers_audio_puts_it_off() -> None:
    async with gate_and_model(QUICK) as (gate, _), watched(gate) as api:
        async with client(gate) as connection:
            caller = Caller(connection)
            await caller.shake_hands()
            for _ in range(4):
                await asyncio.sleep(IDLE_S - 10)
                await caller.talk(1)
            heard = CLOCK.now()
            assert not api.asked_s
            await asyncio.sleep(IDLE_S + 1)
        (asked_s,) = api.asked_s
        assert abs(asked_s - heard - IDLE_S) < 1


@in_virtual_time
async def test_counting_begins_when_the_model_is_up_or_has_failed() -> None:
    for state in (Up(), Failed("why")):
        async with gate_to(f"ws://{HOST}:9", is_up=False) as gate, watched(gate) as api:
            await asyncio.sleep(5 * IDLE_S)
            assert not api.asked_s, "it is still loading"
            gate.condition.set(state)
            await asyncio.sleep(IDLE_S - 1)
            assert not api.asked_s
            await asyncio.sleep(2)
            assert len(api.asked_s) == 1


@in_virtual_time
async def test_it_is_tried_for_ever_with_growing_pauses() -> None:
    async with gate_and_model(QUICK) as (gate, _), watched(gate, status=403) as api:
        with logged() as log:
            await asyncio.sleep(2 * IDLE_S)
            pauses = [b - a for a, b in zip(api.asked_s, api.asked_s[1:], strict=False)]
            assert [round(pause) for pause in pauses[:6]] == [2, 4, 8, 16, 32, MAX_PAUSE_S]
            assert max(pauses) < MAX_PAUSE_S + 1
            assert len(pauses) > 10
            api.status = 200
            await asyncio.sleep(MAX_PAUSE_S + 1)
        text = log.getvalue()
    assert "goes on costing: RunPod answers 403: not now. It is tried again, at most every" in text
    assert text.splitlines()[-1].startswith("RunPod stops this pod")
    assert KEY not in text
