"""A whole call through the proxy of a pod: PERSONAPLEX_URL with a path before /api/chat."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.ledger import count_frames
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.values import server_address
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import bridge_to, speech
from tests.runpod.harness import account, body, until


async def test_a_call_reaches_the_model_in_a_pod() -> None:
    model = ModelServer(ModelOptions("echo", prompt_ms=100), SYSTEM_CLOCK)

    @asynccontextmanager
    async def container(_env: Mapping[str, str]) -> AsyncIterator[str]:
        async with hosted(model.application(), "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}"

    async with account(container) as scene:
        pod = await scene.runpod.create(body())
        state = scene.server.account.pods[pod.id]
        await until(lambda: state.status == "RUNNING")
        address = server_address(scene.settings.url(pod.id, pod.port))
        async with bridge_to(address.url, clock=SYSTEM_CLOCK) as line:
            plan = CallPlan("", speech()[:16_000], hang_up_after_s=3.0)
            report = await line.call(plan, SYSTEM_CLOCK)
            record = await line.record()
        ledger = count_frames(report, record, model.sessions[0])
    assert report.problems == []
    assert ledger.uplink_difference == 0
    assert len(report.heard) > 8000, "a second and more of what the caller said"
