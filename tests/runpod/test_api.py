"""The client, against the strict stand-in: repetition, refusals, what may never happen twice."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from personaplex_bridge.errors import RunPodError
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.runpod.requests import Patience
from personaplex_bridge.simulator.runpod import KEY, Holdings, Quota, Trouble, Volume
from personaplex_bridge.web.hosting import hosted
from tests.runpod.harness import HASTY, RTX_4090, account, body, until

PODS = "/v2/pods"


async def test_a_pod_from_its_creation_to_its_end() -> None:
    async with account() as scene:
        made = await scene.runpod.create(body(mounts={"persistent": {"size": 40, "path": "/w"}}))
        assert (made.status, made.gpu, made.cost) == ("PROVISIONING", RTX_4090, 0.44)
        assert made.persistent_gb == 40
        state = scene.server.account.pods[made.id]
        await until(lambda: state.status == "RUNNING")
        assert [pod.id for pod in await scene.runpod.pods()] == [made.id]
        running = await scene.runpod.pod(made.id)
        assert running.uptime_s is not None
        assert running.port == 8998
        stopped = await scene.runpod.act(made.id, "stop")
        assert stopped is not None
        assert (stopped.status, stopped.cost) == ("EXITED", 0.0)
        assert await scene.runpod.act(made.id, "terminate") is None
        with pytest.raises(RunPodError) as caught:
            await scene.runpod.pod(made.id)
        assert caught.value.status == 404


async def test_the_catalogue_with_stock() -> None:
    async with account() as scene:
        gpus = {gpu.id: gpu for gpu in await scene.runpod.gpus("COMMUNITY", "12.1")}
        assert gpus[RTX_4090].price == {"SECURE": 0.44, "COMMUNITY": 0.31}
        assert gpus[RTX_4090].availability == "MEDIUM"
        assert gpus[RTX_4090].data_centers == {"US-KS-2": "MEDIUM", "EU-RO-1": "MEDIUM"}
        assert not gpus["NVIDIA L4"].offered("COMMUNITY")
        none = {gpu.id: gpu for gpu in await scene.runpod.gpus("SECURE", "13.0")}
        assert none[RTX_4090].availability == "NONE"


async def test_network_volumes() -> None:
    holdings = Holdings(volumes=[Volume("vol1", "weights", 50, "EU-RO-1")])
    async with account(holdings=holdings) as scene:
        (volume,) = await scene.runpod.network_volumes()
        assert (volume.id, volume.size_gb, volume.data_center) == ("vol1", 50, "EU-RO-1")


async def test_what_is_wrong_with_a_request_is_told() -> None:
    async with account(openapi=None) as scene:
        with pytest.raises(RunPodError, match="additional properties 'bogus'") as caught:
            await scene.runpod.create(body(bogus=1, disk="big"))
        assert caught.value.status == 422
        assert caught.value.errors == (
            "$.disk: got string, want integer",
            "$: additional properties 'bogus' not allowed",
        )
        assert scene.asked("POST", PODS) == 1, "the same request would fail the same way"


async def test_a_wrong_key_is_named_but_not_shown() -> None:
    async with account() as scene, RunPod("rpa_secret", scene.url, patience=HASTY) as other:
        with pytest.raises(RunPodError, match="RUNPOD_API_KEY is not a valid key") as caught:
            await other.pods()
        assert caught.value.status == 401
        assert "rpa_secret" not in f"{caught.value!r}{other!r}"


async def test_a_key_that_an_answer_repeats_is_hidden() -> None:
    async def echo(request: web.Request) -> web.Response:
        said = {"title": "x", "status": 400, "detail": request.headers["Authorization"]}
        return web.json_response(said, status=400)

    app = web.Application()
    app.router.add_get(PODS, echo)
    async with (
        hosted(app, "127.0.0.1", 0) as port,
        RunPod("k3y", f"http://127.0.0.1:{port}") as api,
    ):
        with pytest.raises(RunPodError) as caught:
            await api.pods()
    assert "k3y" not in str(caught.value)
    assert caught.value.detail == "Bearer (hidden)"


@pytest.mark.parametrize("status", [500, 503, None])
async def test_questions_are_asked_again(status: int | None) -> None:
    async with account() as scene:
        scene.server.troubles.append(Trouble("GET", PODS, status, times=3))
        assert await scene.runpod.pods() == []
        assert scene.asked("GET", PODS) == 4


async def test_not_for_ever() -> None:
    told: list[str] = []
    async with account() as scene:
        scene.runpod.tell = told.append
        scene.server.troubles.append(Trouble("GET", PODS, 503, times=99))
        with pytest.raises(RunPodError, match="503"):
            await scene.runpod.pods()
        assert scene.asked("GET", PODS) == HASTY.attempts
    assert len(told) == HASTY.attempts - 1
    assert "trying again" in told[0]


async def test_too_many_requests_are_waited_for_as_told() -> None:
    told: list[str] = []
    async with account(quotas=(Quota("minute", 2, 1.0),)) as scene:
        scene.runpod.tell = told.append
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            await scene.runpod.pods()
        assert asyncio.get_running_loop().time() - began >= 0.5
    assert told
    assert "429" in told[0]
    assert "trying again in 1 s" in told[0]


async def test_a_wait_beyond_all_patience_is_none() -> None:
    async with account(quotas=(Quota("day", 1, 86_400),)) as scene:
        await scene.runpod.pods()
        with pytest.raises(RunPodError, match="day window") as caught:
            await scene.runpod.pods()
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 86_000
        assert scene.asked("GET", PODS) == 2


@pytest.mark.parametrize("status", [500, 502, None])
async def test_a_pod_that_was_made_without_an_answer_is_found(status: int | None) -> None:
    async with account() as scene:
        scene.server.troubles.append(Trouble("POST", PODS, status, done=True))
        made = await scene.runpod.create(body())
        assert [made.id] == list(scene.server.account.pods)
        assert scene.asked("POST", PODS) == 1


@pytest.mark.parametrize("status", [429, 500, None])
async def test_a_pod_that_was_not_made_is_asked_for_again(status: int | None) -> None:
    async with account() as scene:
        scene.server.troubles.append(Trouble("POST", PODS, status, times=2))
        made = await scene.runpod.create(body())
        assert [made.id] == list(scene.server.account.pods)
        assert scene.asked("POST", PODS) == 3


async def test_an_older_pod_of_the_name_is_not_taken_for_the_new_one() -> None:
    async with account() as scene:
        old = await scene.runpod.create(body())
        scene.server.troubles.append(Trouble("POST", PODS, None))
        new = await scene.runpod.create(body(), known=[old.id])
        assert new.id != old.id


async def test_a_refusal_is_not_uncertain_and_silence_is() -> None:
    async with account() as scene:
        scene.server.account.holdings.balance_usd = 0
        with pytest.raises(RunPodError) as refused:
            await scene.runpod.create(body())
        assert (refused.value.status, refused.value.uncertain) == (402, False)
        scene.server.troubles.append(Trouble("POST", PODS, None, times=99))
        with pytest.raises(RunPodError) as silent:
            await scene.runpod.create(body())
        assert (silent.value.status, silent.value.uncertain) == (None, True)


@pytest.mark.parametrize("status", [500, None])
async def test_an_action_that_was_done_without_an_answer_is_done(status: int | None) -> None:
    async with account() as scene:
        pod = await scene.runpod.create(body())
        path = f"{PODS}/{pod.id}/action"
        for action, has_gpu in (("stop", False), ("start", True)):
            scene.server.troubles.append(Trouble("POST", path, status, done=True))
            done = await scene.runpod.act(pod.id, action)  # type: ignore[arg-type]
            assert done is not None
            assert done.has_gpu is has_gpu


async def test_a_deleted_pod_that_is_still_listed_is_not_taken_for_the_new_one() -> None:
    async with account() as scene:
        old = await scene.runpod.create(body())
        pods = scene.server.account.pods
        await until(lambda: pods[old.id].status == "RUNNING")
        pods[old.id].status = "TERMINATED"
        scene.server.troubles.append(Trouble("POST", PODS, 500, done=True))
        new = await scene.runpod.create(body())
        assert new.id != old.id
        assert pods.keys() == {old.id, new.id}


async def test_an_action_that_can_not_be_is_refused_once() -> None:
    async with account() as scene:
        pod = await scene.runpod.create(body())
        with pytest.raises(RunPodError, match="409") as caught:
            await scene.runpod.act(pod.id, "start")
        assert caught.value.status == 409
        assert scene.asked("POST", f"{PODS}/{pod.id}/action") == 1


@pytest.mark.parametrize("status", [500, None])
async def test_what_is_deleted_without_an_answer_is_deleted(status: int | None) -> None:
    async with account() as scene:
        pod = await scene.runpod.create(body())
        scene.server.troubles.append(Trouble("DELETE", f"{PODS}/{pod.id}", status, done=True))
        await scene.runpod.delete(pod.id)
        assert not scene.server.account.pods
        await scene.runpod.delete(pod.id)


async def test_no_server_at_all() -> None:
    patience = Patience(request_s=2, attempts=2, first_pause_s=0.01)
    async with RunPod(KEY, "http://127.0.0.1:1", patience=patience) as runpod:
        with pytest.raises(RunPodError, match=r"no answer from http://127\.0\.0\.1:1") as caught:
            await runpod.create(body())
        assert not caught.value.uncertain, "nothing was ever sent"


async def test_an_answer_that_never_ends_has_a_deadline() -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    app = web.Application()
    app.router.add_get(PODS, hang)
    patience = Patience(request_s=0.1, attempts=1)
    async with (
        hosted(app, "127.0.0.1", 0) as port,
        RunPod(KEY, f"http://127.0.0.1:{port}", patience=patience) as runpod,
    ):
        with pytest.raises(RunPodError, match="no answer"):
            await runpod.pods()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({}, "pods is NoneType, not list"),
        ({"pods": [{"id": 7}]}, "id is int, not str"),
        ([], "not an object"),
        ({"pods": [{"id": "a", "name": "b", "status": "X", "actions": [], "cost": "1"}]}, "cost"),
    ],
)
async def test_answers_that_are_not_as_agreed(answer: object, why: str) -> None:
    async def pods(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get(PODS, pods)
    async with hosted(app, "127.0.0.1", 0) as port, RunPod(KEY, f"http://127.0.0.1:{port}") as api:
        with pytest.raises(RunPodError, match=why):
            await api.pods()


async def test_unknown_fields_do_no_harm_and_redirects_are_not_followed() -> None:
    async def pods(_request: web.Request) -> web.Response:
        pod = {"id": "a", "name": "b", "status": "NEW", "actions": [], "cost": 1, "later": {}}
        return web.json_response({"pods": [pod], "next": None})

    async def elsewhere(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/v2/pods")

    app = web.Application()
    app.router.add_get(PODS, pods)
    app.router.add_get("/v2/network-volumes", elsewhere)
    async with hosted(app, "127.0.0.1", 0) as port, RunPod(KEY, f"http://127.0.0.1:{port}") as api:
        assert [pod.status for pod in await api.pods()] == ["NEW"]
        with pytest.raises(RunPodError, match="302"):
            await api.network_volumes()


async def test_what_was_spent() -> None:
    async with account() as scene:
        pod = await scene.runpod.create(body())
        await until(lambda: scene.server.account.pods[pod.id].status == "RUNNING")
        spent = await scene.runpod.billing(pod.id, 3)
        assert spent
        assert {record.pod_id for record in spent} == {pod.id}
        assert sum(record.gpu for record in spent) > 0
        assert all(record.total == pytest.approx(record.gpu + record.disk) for record in spent)
        assert await scene.runpod.billing("another", 3) == []
