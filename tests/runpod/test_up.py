"""`up` against the stand-in: whatever goes wrong is told, and nothing runs on unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from personaplex_bridge.errors import PodError, RunPodError
from personaplex_bridge.runpod.following import Ready
from personaplex_bridge.runpod.up import Plan, up
from personaplex_bridge.simulator.runpod import Holdings, Pace, Trouble, Volume
from tests.runpod.harness import (
    LIMIT_S,
    RTX_3090,
    RTX_4090,
    FakeGate,
    Scene,
    Told,
    account,
    body,
    described,
    until,
)

PODS = "/v2/pods"


async def go(scene: Scene, told: Told | None = None, **options: Any) -> Ready:
    """`up`, in a hurry."""
    description = options.pop("description", None) or described()
    plan = Plan(timeout_s=options.pop("timeout_s", LIMIT_S), poll_s=0.02, **options)
    return await up(scene.runpod, description, scene.settings, plan, told or Told())


def only(scene: Scene) -> Any:
    (pod,) = scene.server.account.pods.values()
    return pod


def loading(stage: str, done: float = 0.0) -> dict[str, Any]:
    return {
        "status": "loading",
        "detail": "not yet",
        "sessions_served": 0,
        "stage": stage,
        "downloaded_bytes": int(done * 16_700_000_000),
    }


async def test_from_nothing_to_an_address() -> None:
    gate = FakeGate(loading("downloading", 0.43), loading("warming"), {"status": "idle"})
    told = Told()
    holdings = Holdings(secrets={"PERSONAPLEX_TOKEN": "from the account"})
    # Slowly enough that every state is seen.
    async with account(gate, holdings, pace=Pace(scale=50)) as scene:
        ready = await go(scene, told)
        pod = only(scene)
        assert ready.url == f"{scene.url}/proxy/{pod.id}-8998"
        assert ready.gate.is_up
        assert pod.status == "RUNNING"
    assert gate.environments[0]["GATE_TOKEN"] == "from the account"
    stages = ["choosing", "made", "PROVISIONING", "STARTING", "gate downloading", "gate warming"]
    assert [stage for stage in told.stages if stage != "gate silent"] == stages
    assert told.of("gate downloading") == ["downloading the weights: 43 % (7.2 of 16.7 GB)"]
    assert any("pulled layer" in line for line in told.of("STARTING"))
    assert told.of("made")[0].endswith("US-KS-2, $0.44 an hour")


async def test_it_is_safe_to_repeat() -> None:
    told = Told()
    async with account() as scene:
        first = await go(scene)
        again = await go(scene, told)
        assert again.pod.id == first.pod.id
        assert scene.asked("POST", PODS) == 1
    assert told.of("found") == [f"pod {first.pod.id} is RUNNING already"]


async def test_a_stopped_pod_is_started() -> None:
    async with account() as scene:
        first = await go(scene)
        await scene.runpod.act(first.pod.id, "stop")
        again = await go(scene, may_make=False)
        assert again.pod.id == first.pod.id
        assert scene.asked("POST", PODS) == 1


async def test_start_makes_nothing() -> None:
    async with account() as scene:
        with pytest.raises(PodError, match="no pod named mine; `personaplex-bridge runpod up`"):
            await go(scene, may_make=False)
        assert scene.asked("POST", PODS) == 0


async def test_a_stopped_pod_whose_host_has_no_gpu_left() -> None:
    async with account() as scene:
        first = await go(scene)
        await scene.runpod.act(first.pod.id, "stop")
        gpu = only(scene).gpu
        gpu.free["SECURE", "US-KS-2"] = 0
        with pytest.raises(PodError, match="not enough free GPUs") as caught:
            await go(scene)
        assert "`personaplex-bridge runpod down`, then `up`" in str(caught.value)
        assert "weights are downloaded again" in str(caught.value)
        assert only(scene).status == "EXITED"


async def test_two_pods_of_one_name() -> None:
    async with account() as scene:
        ids = [(await scene.runpod.create(body())).id for _ in range(2)]
        with pytest.raises(PodError, match="2 pods are named mine") as caught:
            await go(scene)
        assert all(pod_id in str(caught.value) for pod_id in ids)
        assert scene.asked("POST", PODS) == 2


async def test_the_next_candidate_when_one_is_taken_or_forbidden() -> None:
    told = Told()
    async with account() as scene:
        taken = scene.server.account.holdings.gpus[0]
        scene.server.troubles.append(Trouble("POST", PODS, 400))
        ready = await go(scene, told)
        assert ready.pod.gpu == RTX_3090
        await scene.runpod.delete(ready.pod.id)
        scene.server.account.holdings.forbidden.add(taken.id)
        assert (await go(scene)).pod.gpu == RTX_3090
    assert told.of("refused")[0].startswith(RTX_4090)


async def test_when_all_candidates_are_refused_the_last_reason_is_shown() -> None:
    async with account() as scene:
        description = described(registry="nobody's")
        with pytest.raises(PodError, match="every candidate") as caught:
            await go(scene, description=description)
        assert "registry credential not found" in str(caught.value)
        assert scene.asked("POST", PODS) == 2
        assert not scene.server.account.pods


async def test_nothing_in_stock() -> None:
    async with account() as scene:
        for gpu in scene.server.account.holdings.gpus:
            gpu.free.clear()
        with pytest.raises(PodError, match="none of the GPU types can be had") as caught:
            await go(scene)
        assert f"{RTX_4090} (SECURE): none free now" in str(caught.value)
        assert scene.asked("POST", PODS) == 0


async def test_no_balance_and_no_understanding_end_it_at_once() -> None:
    async with account() as scene:
        scene.server.account.holdings.balance_usd = 0
        with pytest.raises(PodError, match="balance"):
            await go(scene)
        assert scene.asked("POST", PODS) == 1
        scene.server.troubles.append(Trouble("POST", PODS, 422))
        with pytest.raises(PodError, match="doesn't understand"):
            await go(scene)
        assert scene.asked("POST", PODS) == 2


async def test_a_pod_that_was_made_without_an_answer_is_gone_on_with() -> None:
    async with account() as scene:
        scene.server.troubles.append(Trouble("POST", PODS, 500, done=True))
        assert (await go(scene)).pod.id == only(scene).id


async def test_a_pod_that_was_made_without_an_answer_is_stopped_if_nobody_can_be_asked() -> None:
    told = Told()
    async with account() as scene:
        # Made; but neither that nor the list of pods is answered, for as long as is tried.
        scene.server.troubles.append(Trouble("POST", PODS, None, done=True))
        scene.server.troubles.append(Trouble("GET", PODS, times=0))
        trouble = scene.server.troubles[-1]
        made = scene.server.account.create

        def then_silence(request: Any) -> Any:
            # It is looked for after each attempt but the last; aiohttp repeats a GET by itself.
            attempts = scene.runpod.patience.attempts
            trouble.times = 2 * attempts * (attempts - 1)
            return made(request)

        scene.server.account.create = then_silence  # type: ignore[assignment,method-assign]
        with pytest.raises(RunPodError, match="no answer"):
            await go(scene, told)
        assert only(scene).status == "EXITED"
    assert told.of("stopped")


async def test_an_image_that_can_not_be_run() -> None:
    told = Told()
    async with account() as scene:
        with pytest.raises(PodError, match="is in ERROR"):
            await go(scene, told, description=described(image="bad/image:1"))
        assert not scene.server.account.pods, "made a moment ago, can't be stopped, may cost"
    assert any("error pulling image: bad/image:1 not found" in line for line in told.of("log"))
    assert told.of("stopped")[0].endswith("could not be stopped, and is deleted")


async def test_a_model_that_has_failed() -> None:
    told = Told()
    gate = FakeGate({"status": "failed", "detail": "the licence isn't accepted\x1b[2J"})
    async with account(gate) as scene:
        with pytest.raises(PodError, match="the licence isn't accepted") as caught:
            await go(scene, told)
        assert "\x1b" not in str(caught.value)
        assert only(scene).status == "EXITED"
    assert any("started" in line for line in told.of("log"))
    assert "is stopped" in told.of("stopped")[0]


async def test_a_deadline() -> None:
    told = Told()
    async with account(FakeGate(loading("downloading", 0.1))) as scene:
        with pytest.raises(PodError, match=r"not ready after .* minutes; last: downloading"):
            await go(scene, told, timeout_s=1.5)
        assert only(scene).status == "EXITED"
    assert told.of("stopped")


async def test_keep() -> None:
    told = Told()
    async with account(FakeGate({"status": "failed"})) as scene:
        with pytest.raises(PodError):
            await go(scene, told, keep=True)
        assert only(scene).status == "RUNNING"
    assert "(--keep), at $0.44 an hour" in told.of("kept")[0]


async def test_a_pod_that_ran_before_is_left_alone() -> None:
    gate, told = FakeGate(), Told()
    async with account(gate) as scene:
        await go(scene)
        gate.reports = [{"status": "failed", "detail": "of late"}]
        with pytest.raises(PodError, match="of late"):
            await go(scene, told)
        assert only(scene).status == "RUNNING"
    assert "was running before, and is left alone" in told.of("kept")[0]


async def cancelled(scene: Scene, told: Told, when: Callable[[], bool]) -> None:
    """Ctrl-C, at some moment."""
    task = asyncio.create_task(go(scene, told))
    await until(when)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_ctrl_c_while_it_comes_up() -> None:
    gate, told = FakeGate(loading("warming")), Told()
    async with account(gate) as scene:
        await cancelled(scene, told, gate.asked.is_set)
        assert only(scene).status == "EXITED"
    assert told.of("stopping")
    assert told.of("stopped")


async def test_ctrl_c_while_the_answer_is_under_way() -> None:
    told = Told()
    async with account() as scene:
        made = scene.server.account.create

        def made_and_cancelled(request: Any) -> Any:
            pod = made(request)
            task.cancel()
            return pod

        scene.server.account.create = made_and_cancelled  # type: ignore[assignment,method-assign]
        task = asyncio.create_task(go(scene, told))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert only(scene).status == "EXITED"
    assert told.of("stopped")


@pytest.mark.parametrize("what", ["made", "started"])
async def test_ctrl_c_before_runpod_has_done_it(what: str) -> None:
    """RunPod carries a request out although nobody waits for the answer any more."""
    told = Told()
    async with account() as scene:
        path = PODS
        if what == "started":
            pod = await scene.runpod.create(body())
            await scene.runpod.act(pod.id, "stop")
            path = f"{PODS}/{pod.id}/action"
        before = scene.asked("POST", path)
        scene.server.troubles.append(Trouble("POST", path, 500, done=True, late_s=1.0))
        await cancelled(scene, told, lambda: scene.asked("POST", path) > before)
        assert only(scene).status == "EXITED"
        runs = only(scene).meter.runs
        assert len(runs) == (1 if what == "made" else 2), "it was carried out"
        assert all(end is not None for _, end, _ in runs), "and costs no more"
    assert told.of("stopped")
    assert not told.of("alarm")


async def test_a_pod_that_can_not_be_stopped_is_told_loudly() -> None:
    told = Told()
    async with account(FakeGate({"status": "failed"})) as scene:
        scene.server.troubles.append(Trouble("POST", f"{PODS}/.*/action", 503, times=99))
        with pytest.raises(PodError):
            await go(scene, told)
        pod_id = only(scene).id
    (alarm,) = told.of("alarm")
    assert f"POD {pod_id} MAY STILL RUN, at $0.44 an hour" in alarm
    assert f"personaplex-bridge runpod stop --id {pod_id}" in alarm
    assert "https://console.runpod.io/pods" in alarm


async def test_a_pod_that_moves() -> None:
    gate, told = FakeGate(loading("downloading", 0.2)), Told()
    async with account(gate) as scene:
        task = asyncio.create_task(go(scene, told))
        await until(gate.asked.is_set)
        old = only(scene).id
        new = scene.server.account.move(old).id
        await until(lambda: bool(told.of("moved")))
        gate.reports = [{"status": "idle"}]
        ready = await task
        assert ready.pod.id == new
        assert ready.url == f"{scene.url}/proxy/{new}-8998"
    assert told.of("moved") == [f"RunPod has moved the pod; it is now {new}, at {ready.url}"]


async def test_a_pod_that_somebody_deletes_or_stops() -> None:
    for action, why in (("terminate", "somebody has deleted it"), ("stop", "is EXITED")):
        gate = FakeGate(loading("warming"))
        async with account(gate) as scene:
            task = asyncio.create_task(go(scene))
            await until(gate.asked.is_set)
            scene.server.account.act(only(scene).id, action)
            with pytest.raises(PodError, match=why):
                await task


async def test_what_differs_is_told_and_left() -> None:
    told = Told()
    async with account() as scene:
        await go(scene)
        description = described(image="ghcr.io/you/personaplex:2", env={"NEW": "private words"})
        await go(scene, told, description=description)
        assert only(scene).body["image"] == "ghcr.io/you/personaplex:1"
    (line,) = told.of("differs")
    assert "ghcr.io/you/personaplex:1 there, ghcr.io/you/personaplex:2 in the description" in line
    assert "env NEW" in line
    assert "private words" not in line


async def test_a_network_volume_decides_the_data_center() -> None:
    holdings = Holdings(volumes=[Volume("vol1", "weights", 50, "EU-RO-1")])
    storage = {"network": {"volume_id": "vol1", "path": "/workspace"}}
    async with account(holdings=holdings) as scene:
        ready = await go(scene, description=described(storage=storage))
        assert ready.pod.data_center == "EU-RO-1"
        assert ready.pod.network_volume == "vol1"
        elsewhere = described(name="b", storage=storage, gpu={"data_centers": ["US-KS-2"]})
        with pytest.raises(PodError, match="is in EU-RO-1"):
            await go(scene, description=elsewhere)
        storage = {"network": {"volume_id": "vol2", "path": "/workspace"}}
        with pytest.raises(PodError, match=r"no network volume vol2; it has: vol1 \(weights\)"):
            await go(scene, description=described(name="b", storage=storage))


async def test_a_token_that_the_gate_does_not_take() -> None:
    async with account(token="another") as scene:
        ready = await go(scene)
        assert ready.gate.is_up
        assert ready.gate.token_fits is False
