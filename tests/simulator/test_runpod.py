"""The stand-in for RunPod: as strict as the contract, asked by a plain HTTP client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from personaplex_bridge.errors import ConfigError
from personaplex_bridge.simulator.runpod import (
    KEY,
    Holdings,
    Options,
    Pace,
    Quota,
    RunPodServer,
    Volume,
)
from personaplex_bridge.simulator.runpod.billing import buckets, last
from personaplex_bridge.web.hosting import hosted
from tests.runpod.harness import AMPLE, FAST, RTX_4090, body, until

PODS = "/v2/pods"


class Api:
    """Asks with the key; gives status, JSON and headers."""

    def __init__(self, http: aiohttp.ClientSession, url: str, server: RunPodServer) -> None:
        self.http, self.url, self.server = http, url, server

    async def ask(
        self, method: str, path: str, key: str | None = KEY, **options: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        headers |= options.pop("headers", {})
        async with self.http.request(
            method, f"{self.url}{path}", headers=headers, **options
        ) as response:
            text = await response.text()
            if response.status >= 400:
                assert response.content_type == "application/problem+json"
                problem = json.loads(text)
                assert problem["status"] == response.status
                assert set(problem) - {"errors"} == {"title", "status", "detail"}
            return response.status, json.loads(text) if text else None, response.headers

    async def make(self, **changes: Any) -> dict[str, Any]:
        status, pod, _ = await self.ask("POST", PODS, json=body(**changes))
        assert status == 201
        return dict(pod)

    async def running(self, **changes: Any) -> str:
        pod_id = str((await self.make(**changes))["id"])
        await until(lambda: self.server.account.pods[pod_id].status == "RUNNING")
        return pod_id


@asynccontextmanager
async def standin(holdings: Holdings | None = None, **options: Any) -> AsyncIterator[Api]:
    server = RunPodServer(Options(**{"pace": FAST, "quotas": AMPLE, **options}), holdings)
    async with (
        hosted(server.application(), "127.0.0.1", 0) as port,
        aiohttp.ClientSession() as http,
    ):
        yield Api(http, f"http://127.0.0.1:{port}", server)


@pytest.mark.parametrize("path", [PODS, f"{PODS}/x", "/v2/catalog/gpus", "/v2/nothing"])
@pytest.mark.parametrize("key", [None, "", "wrong", f"{KEY}x"])
async def test_nobody_gets_in_without_the_key(path: str, key: str | None) -> None:
    async with standin() as api:
        status, problem, _ = await api.ask("GET", path, key)
        assert status == 401
        assert "bearer token" in problem["detail"]


async def test_what_is_no_operation() -> None:
    async with standin() as api:
        assert (await api.ask("GET", "/v2/nothing"))[0] == 404
        assert (await api.ask("PUT", PODS))[0] == 405


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"gpuTypeIds": ["x"]}, "$: additional properties 'gpuTypeIds' not allowed"),
        ({"name": ""}, "$.name: length must be >= 1"),
        ({"name": None}, "$.name: got null, want string"),
        ({"disk": "20"}, "$.disk: got string, want integer"),
        ({"disk": True}, "$.disk: got boolean, want integer"),
        ({"disk": 0}, "$.disk: must be >= 1 but found 0"),
        ({"cloud": "ALL"}, "$.cloud: value must be one of 'SECURE', 'COMMUNITY'"),
        ({"env": {"PORT": 3}}, "$.env.PORT: got integer, want string"),
        ({"ports": "8998/http"}, "$.ports: got string, want array"),
        ({"ports": [8998]}, "$.ports[0]: got integer, want string"),
        ({"gpu": {"count": 1}}, "$.gpu: missing property 'id'"),
        ({"gpu": {"id": "x", "vram": 24}}, "$.gpu: additional properties 'vram' not allowed"),
        (
            {"gpu": {"id": "x", "minCudaVersion": "12"}},
            r"$.gpu.minCudaVersion: does not match pattern '\\d+\\.\\d+'",
        ),
        (
            {"mounts": {"persistent": {"size": 9, "path": "/w"}}},
            "$.mounts.persistent.size: must be >= 10 but found 9",
        ),
        (
            {"mounts": {"network": [{"volumeId": "v", "path": "/w"}] * 2}},
            "$.mounts.network: maximum 1 items required, but found 2 items",
        ),
        (
            {"mounts": {"persistent": {"size": 10}}},
            "$.mounts.persistent: missing property 'path'",
        ),
        ({"startSsh": 1}, "$.startSsh: got integer, want boolean"),
    ],
)
async def test_bodies_that_are_not_as_the_contract_says(
    changes: dict[str, Any], error: str
) -> None:
    async with standin() as api:
        status, problem, _ = await api.ask("POST", PODS, json=body(**changes))
        assert status == 422
        assert problem["errors"] == [error]
        assert not api.server.account.pods


async def test_bodies_that_are_no_bodies() -> None:
    async with standin() as api:
        assert (await api.ask("POST", PODS, data=b"{}"))[0] == 400
        headers = {"Content-Type": "application/json"}
        assert (await api.ask("POST", PODS, data=b"{", headers=headers))[0] == 400
        status, problem, _ = await api.ask("POST", PODS, json=[1])
        assert status == 422
        assert problem["errors"] == ["$: got array, want object"]
        assert (await api.ask("POST", f"{PODS}/x/action", json={"action": "pause"}))[0] == 422


BOTH = {
    "persistent": {"size": 10, "path": "/w"},
    "network": [{"volumeId": "vol1", "path": "/w"}],
}


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"cpu": {"id": "cpu5c", "vcpuCount": 4}}, 400, "exactly one of gpu or cpu"),
        ({"mounts": BOTH}, 400, "mutually exclusive"),
        ({"mounts": {"network": []}}, 400, "must not be empty"),
        ({"mounts": {"network": [{"volumeId": "no", "path": "/w"}]}}, 400, "volume not found"),
        (
            {
                "mounts": {"network": [{"volumeId": "vol1", "path": "/w"}]},
                "dataCenterIds": ["US-KS-2"],
            },
            400,
            "is in EU-RO-1",
        ),
        ({"gpu": {"id": "GTX 1"}}, 400, "unknown GPU type"),
        ({"gpu": {"id": RTX_4090, "count": 9}}, 400, "at most 8"),
        ({"gpu": {"id": RTX_4090, "count": 5}}, 400, "no instances currently available"),
        ({"gpu": {"id": RTX_4090, "minCudaVersion": "12.9"}}, 400, "no instances"),
        (
            {"gpu": {"id": RTX_4090, "minCudaVersion": "12.1", "allowedCudaVersions": ["12.4"]}},
            400,
            "mutually exclusive",
        ),
        ({"dataCenterIds": ["AP-JP-1"]}, 400, "no instances"),
        ({"registry": "reg2"}, 400, "registry credential not found"),
        ({"ports": ["8998"]}, 400, "port/protocol"),
        ({"templateId": "t"}, 404, "template not found"),
        ({"gpu": {"id": "NVIDIA L4"}}, 403, "cannot access"),
    ],
)
async def test_rules_across_fields(changes: dict[str, Any], status: int, detail: str) -> None:
    volumes = [Volume("vol1", "weights", 50, "EU-RO-1")]
    holdings = Holdings(volumes=volumes, registries={"reg1"}, forbidden={"NVIDIA L4"})
    async with standin(holdings) as api:
        answered, problem, _ = await api.ask("POST", PODS, json=body(**changes))
        assert answered == status
        assert detail in problem["detail"]
        assert "errors" not in problem


async def test_no_balance() -> None:
    async with standin(Holdings(balance_usd=0)) as api:
        assert (await api.ask("POST", PODS, json=body()))[0] == 402


async def test_a_pod_passes_through_its_states() -> None:
    async with standin(pace=Pace(scale=100)) as api:
        pod = await api.make(registry=None)
        assert (pod["status"], pod["runtime"], pod["startedAt"]) == ("PROVISIONING", None, None)
        seen: list[str] = []
        while not seen or seen[-1] != "RUNNING":
            _, pod, _ = await api.ask("GET", f"{PODS}/{pod['id']}")
            seen.append(pod["status"])
        assert list(dict.fromkeys(seen)) == ["PROVISIONING", "STARTING", "RUNNING"]
        assert pod["runtime"]["uptime"] >= 0
        assert pod["actions"] == ["stop", "restart", "terminate"]


async def test_each_state_allows_its_actions_only() -> None:
    async with standin() as api:
        path = f"{PODS}/{await api.running()}/action"

        async def act(action: str) -> int:
            return (await api.ask("POST", path, json={"action": action}))[0]

        assert await act("start") == 409
        assert await act("restart") == 200
        assert await act("stop") == 200
        assert [await act("stop"), await act("restart")] == [409, 409]
        assert await act("start") == 200
        assert await act("terminate") == 204
        assert await act("terminate") == 404


async def test_a_bad_image() -> None:
    async with standin() as api:
        pod_id = (await api.make(image="bad/image"))["id"]
        await until(lambda: api.server.account.pods[pod_id].status == "ERROR")
        _, pod, _ = await api.ask("GET", f"{PODS}/{pod_id}")
        assert pod["actions"] == ["start", "terminate"]
        assert pod["cost"] == 0.44, "only EXITED and TERMINATED cost nothing"


async def test_a_container_that_fails() -> None:
    @asynccontextmanager
    async def broken(_env: Mapping[str, str]) -> AsyncIterator[str]:
        if _env:
            raise OSError("no such entry")
        yield ""

    async with standin(container=broken) as api:
        pod_id = (await api.make())["id"]
        pod = api.server.account.pods[pod_id]
        await until(lambda: pod.status == "ERROR")
        assert pod.log.entries[-1].line == "OSError: no such entry"


async def test_stopping_frees_the_gpu_and_starting_takes_it_again() -> None:
    async with standin() as api:
        pod_id = await api.running()
        gpu = api.server.account.pods[pod_id].gpu
        assert gpu.free["SECURE", "US-KS-2"] == 3
        path = f"{PODS}/{pod_id}/action"
        _, pod, _ = await api.ask("POST", path, json={"action": "stop"})
        assert (pod["status"], pod["cost"]) == ("EXITED", 0.0)
        assert gpu.free["SECURE", "US-KS-2"] == 4
        gpu.free["SECURE", "US-KS-2"] = 0
        status, problem, _ = await api.ask("POST", path, json={"action": "start"})
        assert status == 400
        assert "not enough free GPUs" in problem["detail"]


async def test_secrets_are_filled_in_for_the_container_alone() -> None:
    environments: list[Mapping[str, str]] = []

    @asynccontextmanager
    async def container(env: Mapping[str, str]) -> AsyncIterator[str]:
        environments.append(env)
        yield ""

    env = {"A": "{{ RUNPOD_SECRET_ONE }}", "B": "{{ RUNPOD_SECRET_TWO }}", "C": "plain"}
    async with standin(Holdings(secrets={"ONE": "1"}), container=container) as api:
        pod_id = await api.running(env=env)
        _, pod, _ = await api.ask("GET", f"{PODS}/{pod_id}")
        assert pod["env"] == env
    (seen,) = environments
    assert {name: seen[name] for name in "ABC"} == {**env, "A": "1"}
    assert seen["RUNPOD_POD_ID"] == pod_id


async def test_rate_limits() -> None:
    async with standin(quotas=(Quota("minute", 2, 60), Quota("day", 10, 86_400))) as api:
        _, _, headers = await api.ask("GET", PODS)
        assert headers["RateLimit"].startswith('"minute";r=1;t=60, "day";r=9;')
        assert headers["RateLimit-Policy"] == '"minute";q=2;w=60, "day";q=10;w=86400'
        await api.ask("GET", PODS)
        status, problem, headers = await api.ask("GET", PODS)
        assert status == 429
        assert problem["detail"] == "rate limit exceeded for the minute window"
        assert 58 <= int(headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/catalog/gpus?include=AVAILABILITY", 400),
        ("/v2/catalog/gpus?product=POD", 400),
        ("/v2/catalog/gpus?include=AVAILABILITY&product=PODS", 422),
        ("/v2/catalog/gpus?include=AVAILABILITY&product=POD&minCudaVersion=12.x", 422),
        (
            "/v2/catalog/gpus?include=AVAILABILITY&product=POD&minCudaVersion=12.1&cudaVersions=12.4",
            400,
        ),
        ("/v2/catalog/gpus?sort=price", 422),
        ("/v2/billing/pods?lastN=3&startTime=2026-01-01T00:00:00Z", 400),
        ("/v2/billing/pods?lastN=0", 422),
        ("/v2/billing/pods?bucketSize=minute", 422),
        ("/v2/billing/pods?startTime=yesterday", 422),
        ("/v2/pods?name=x", 422),
        ("/v2/pods/x/logs?tail=5001", 422),
        ("/v2/pods/x/logs?source=all", 422),
        ("/v2/catalog/gpus?include=AVAILABILITY&product=POD,SERVERLESS&minCudaVersion=12", 200),
        ("/v2/catalog/gpus", 200),
    ],
)
async def test_queries(path: str, status: int) -> None:
    async with standin() as api:
        assert (await api.ask("GET", path))[0] == status


async def test_stock_is_shown_only_on_request() -> None:
    async with standin() as api:
        _, answer, _ = await api.ask("GET", "/v2/catalog/gpus")
        assert not any({"availability", "dataCenters"} & gpu.keys() for gpu in answer["gpus"])
        path = "/v2/catalog/gpus?include=AVAILABILITY&product=POD&cloud=COMMUNITY&count=3"
        _, answer, _ = await api.ask("GET", path)
        stock = {gpu["id"]: gpu["availability"] for gpu in answer["gpus"]}
        assert stock[RTX_4090] == "LOW", "two pods of three"
        assert stock["NVIDIA L4"] == "NONE"


async def test_what_runs_costs() -> None:
    # An hour passes in 36 ms.
    async with standin(pace=Pace(scale=100_000)) as api:
        pod_id = await api.running()
        await asyncio.sleep(0.05)
        await api.ask("POST", f"{PODS}/{pod_id}/action", json={"action": "stop"})
        query = f"/v2/billing/pods?podId={pod_id}&bucketSize=hour"
        _, first, _ = await api.ask("GET", query)
        await asyncio.sleep(0.05)
        _, later, _ = await api.ask("GET", query)
    totals = [answer["metadata"]["totals"] for answer in (first, later)]
    assert totals[0]["gpuAmount"] > 0.44
    assert totals[1]["gpuAmount"] == pytest.approx(totals[0]["gpuAmount"]), "stopped"
    assert totals[1]["diskAmount"] > totals[0]["diskAmount"], "storage goes on costing"
    assert later["metadata"]["uniquePodCount"] == 1
    amounts = sum(record["totalAmount"] for record in later["records"])
    assert totals[1]["totalAmount"] == pytest.approx(amounts)


def test_buckets_are_aligned() -> None:
    now = datetime(2026, 3, 18, 13, 30, tzinfo=UTC)  # a Wednesday
    starts = {size: last(2, size, now) for size in ("hour", "day", "week", "month", "year")}
    assert starts == {
        "hour": datetime(2026, 3, 18, 12, tzinfo=UTC),
        "day": datetime(2026, 3, 17, tzinfo=UTC),
        "week": datetime(2026, 3, 9, tzinfo=UTC),
        "month": datetime(2026, 2, 1, tzinfo=UTC),
        "year": datetime(2025, 1, 1, tzinfo=UTC),
    }
    months = list(buckets(datetime(2025, 12, 5, tzinfo=UTC), now, "month"))
    assert [start.month for start, _ in months] == [12, 1, 2, 3]
    assert all(end == after for (_, end), (after, _) in pairwise(months))


async def read_events(response: aiohttp.ClientResponse, count: int) -> list[dict[str, str]]:
    events: list[dict[str, str]] = []
    while len(events) < count:
        event = (await response.content.readuntil(b"\n\n")).decode()
        fields = dict(line.split(": ", 1) for line in event.strip().splitlines())
        events.append({"id": fields["id"], **json.loads(fields["data"])})
    return events


async def test_logs_are_resumed_by_the_last_event() -> None:
    async with standin() as api:
        pod_id = await api.running()
        log = api.server.account.pods[pod_id].log
        for number in range(6):
            log.add(api.server.account.now(), "container", f"line {number}")
        url = f"{api.url}{PODS}/{pod_id}/logs"
        headers = {"Authorization": f"Bearer {KEY}"}
        async with api.http.get(f"{url}?tail=3&source=container", headers=headers) as response:
            assert response.content_type == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["X-Accel-Buffering"] == "no"
            events = await read_events(response, 3)
        assert [event["line"] for event in events] == ["line 3", "line 4", "line 5"]
        headers["Last-Event-ID"] = events[0]["id"]
        async with api.http.get(f"{url}?tail=100", headers=headers) as response:
            again = await read_events(response, 2)
            assert again == events[1:]
            log.add(api.server.account.now(), "container", "live")
            (live,) = await read_events(response, 1)
            assert (live["line"], live["source"]) == ("live", "container")


@asynccontextmanager
async def backend(_env: Mapping[str, str]) -> AsyncIterator[str]:
    """A container: repeats what WebSockets say, to those who know the word."""

    async def socket(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer word":
            return web.json_response({"error": "unauthorized"}, status=401)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.data == b"end":
                await ws.close(code=1011, message=b"the model")
            else:
                await ws.send_bytes(message.data + request.query_string.encode())
        return ws

    async def plain(request: web.Request) -> web.Response:
        host = request.headers["Authorization"]
        return web.json_response({"path": request.path_qs, "auth": host}, status=503)

    app = web.Application()
    app.router.add_get("/api/chat", socket)
    app.router.add_get("/healthz", plain)
    async with hosted(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def test_the_proxy_passes_requests_and_sockets_on() -> None:
    async with standin(container=backend) as api:
        base = f"{api.url}/proxy/{await api.running()}-8998"
        headers = {"Authorization": "Bearer word"}
        async with api.http.get(f"{base}/healthz?a=%20b", headers=headers) as response:
            assert response.status == 503
            assert await response.json() == {"path": "/healthz?a=%20b", "auth": "Bearer word"}
        async with api.http.ws_connect(f"{base}/api/chat?q=1", headers=headers) as ws:
            await ws.send_bytes(b"hello ")
            assert await ws.receive_bytes() == b"hello q=1"
            await ws.ping(b"there")
            await ws.send_bytes(b"end")
            message = await ws.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1011)
            assert message.extra == "the model"


async def test_the_proxy_passes_a_refusal_on_before_any_upgrade() -> None:
    async with standin(container=backend) as api:
        url = f"{api.url}/proxy/{await api.running()}-8998/api/chat"
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        async with api.http.get(url, headers=headers) as response:
            assert response.status == 401
            assert await response.json() == {"error": "unauthorized"}


async def test_the_proxy_cuts_what_is_idle() -> None:
    async with standin(container=backend, idle_cut_s=0.2) as api:
        base = f"{api.url}/proxy/{await api.running()}-8998"
        headers = {"Authorization": "Bearer word"}
        async with api.http.ws_connect(f"{base}/api/chat", headers=headers) as ws:
            await ws.send_bytes(b"x")
            assert await ws.receive_bytes() == b"x"
            async with asyncio.timeout(20):
                message = await ws.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
            assert ws.close_code == 1006


@pytest.mark.parametrize("target", ["nobody-8998", "{id}-8999", "{id}", "{id}-8998x"])
async def test_the_proxy_knows_running_pods_and_their_ports_only(target: str) -> None:
    async with standin(container=backend) as api:
        pod_id = await api.running()
        async with api.http.get(f"{api.url}/proxy/{target.format(id=pod_id)}/healthz") as response:
            assert response.status == 404
        api.server.account.act(pod_id, "stop")
        async with api.http.get(f"{api.url}/proxy/{pod_id}-8998/healthz") as response:
            assert response.status == 404


async def test_requests_can_be_checked_against_a_document(tmp_path: Path) -> None:
    pytest.importorskip("jsonschema")
    path = tmp_path / "openapi.json"
    schema = {"type": "object", "required": ["name", "labels"]}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Create"}}}
    tail = {"name": "tail", "in": "query", "schema": {"type": "integer", "maximum": 5}}
    document = {
        "paths": {
            PODS: {"post": {"operationId": "create", "requestBody": {"content": content}}},
            f"{PODS}/{{id}}/logs": {"get": {"operationId": "logs", "parameters": [tail]}},
        },
        "components": {"schemas": {"Create": schema}},
    }
    path.write_text(json.dumps(document), "utf-8")
    async with standin(openapi=path) as api:
        status, problem, _ = await api.ask("POST", PODS, json=body())
        assert status == 422
        assert problem["errors"] == ["openapi: $: 'labels' is a required property"]
        assert (await api.ask("GET", PODS))[0] == 422
        _, problem, _ = await api.ask("GET", f"{PODS}/x/logs?tail=6")
        assert problem["errors"] == ["openapi: tail: 6 is greater than the maximum of 5"]


def test_a_document_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="openapi"):
        RunPodServer(Options(openapi=tmp_path / "none.json"))
