"""An account at RunPod, as the stand-in keeps it: its pods, and the rules for making, starting,
stopping and deleting them.
"""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from personaplex_bridge.simulator.runpod import billing, rules
from personaplex_bridge.simulator.runpod.billing import Meter, rfc3339
from personaplex_bridge.simulator.runpod.pods import (
    ACTIONS,
    HAS_GPU,
    Pace,
    PodState,
    RunPodContainer,
    live,
    nothing,
)
from personaplex_bridge.simulator.runpod.problems import Problem
from personaplex_bridge.simulator.runpod.stock import Gpu, Volume, find, usual_gpus


@dataclass(slots=True)
class Holdings:
    """What an account has, and what it can rent. `secrets` fill `{{ RUNPOD_SECRET_X }}`."""

    balance_usd: float = 10.0
    gpus: list[Gpu] = field(default_factory=usual_gpus)
    volumes: list[Volume] = field(default_factory=list)
    registries: set[str] = field(default_factory=set)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    forbidden: set[str] = field(default_factory=set)
    """GPU types that this account may not have (403)."""


class Account:
    """The pods of one account. `close` ends them all."""

    def __init__(
        self,
        holdings: Holdings | None = None,
        pace: Pace | None = None,
        container: RunPodContainer = nothing,
    ) -> None:
        self.holdings = holdings or Holdings()
        self.pace = pace or Pace()
        self.pods: dict[str, PodState] = {}
        self._container = container
        self._meters: list[Meter] = []
        self._random = random.Random(5)
        self._tasks: set[asyncio.Task[None]] = set()
        self._began = datetime.now(UTC)
        self._loop_began: float | None = None

    def now(self) -> datetime:
        """The pods' own time, which passes `pace.scale` times as fast."""
        time = asyncio.get_running_loop().time()
        if self._loop_began is None:
            self._loop_began = time
        return self._began + timedelta(seconds=(time - self._loop_began) * self.pace.scale)

    def get(self, pod_id: str) -> PodState:
        """A pod.

        Raises:
            Problem: 404.
        """
        try:
            return self.pods[pod_id]
        except KeyError:
            raise Problem(404, "pod not found") from None

    def create(self, body: Mapping[str, Any]) -> PodState:
        """Make a pod of a body that `rules.pod` finds nothing wrong with.

        Raises:
            Problem: 400, 402, 403 or 404, in the order in which RunPod can tell.
        """
        why = rules.across(body)
        if why is not None:
            raise Problem(400, why)
        if "templateId" in body:
            raise Problem(404, "template not found")
        if "cpu" in body:
            raise Problem(400, "this stand-in has no CPU pods")
        gpu = self._allowed(body)
        cloud, center = gpu.place(self._at_its_volume(body))
        now = self.now()
        sizes = (body.get("disk", 20), body.get("mounts", {}).get("persistent", {}).get("size", 0))
        pod_id = self._new_id()
        meter = Meter(pod_id, sum(sizes), now)
        pod = PodState(pod_id, body, gpu, cloud, center, now, meter)
        meter.start(now, pod.price)
        self._meters.append(meter)
        self.pods[pod.id] = pod
        self._begin(pod)
        return pod

    def act(self, pod_id: str, action: str) -> PodState | None:
        """Carry an action out; None if the pod is gone after it.

        Raises:
            Problem: 404; 409, its state doesn't allow that; 400, its host has no GPU free.
        """
        pod = self.get(pod_id)
        if action not in ACTIONS[pod.status]:
            raise Problem(409, f"action {action} is not valid for a pod that is {pod.status}")
        match action:
            case "start":
                self._start(pod)
            case "stop":
                self._stop(pod, "EXITED")
            case "restart":
                self._stop(pod, "EXITED")
                self._start(pod)
            case _:
                self.delete(pod_id)
                return None
        return pod

    def delete(self, pod_id: str) -> None:
        """Delete a pod.

        Raises:
            Problem: 404.
        """
        pod = self.get(pod_id)
        self._stop(pod, "TERMINATED")
        pod.meter.deleted = self.now()
        pod.log.close()
        del self.pods[pod_id]

    def move(self, pod_id: str) -> PodState:
        """Move a pod to another machine, as RunPod may: under a new id."""
        pod = self.pods.pop(pod_id)
        pod.log.close()
        body = dict(pod.body)
        self._stop(pod, "TERMINATED")
        return self.create(body)

    def billing(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The answer of `GET /v2/billing/pods`."""
        now, size = self.now(), query.get("bucketSize", "day")
        end = datetime.fromisoformat(query.get("endTime") or now.isoformat())
        start = datetime.fromisoformat(query.get("startTime") or (end - timedelta(30)).isoformat())
        if "lastN" in query:
            start = billing.last(int(query["lastN"]), size, now)
        pod_id = query.get("podId")
        spans = list(billing.buckets(start.astimezone(UTC), end.astimezone(UTC), size))
        found = (
            meter.record(*span, now)
            for span in spans
            for meter in self._meters
            if pod_id in (None, meter.pod_id)
        )
        records = [record for record in found if record is not None]
        window = (
            {"startTime": rfc3339(spans[0][0]), "endTime": rfc3339(spans[-1][1])} if spans else {}
        )
        return {
            "records": records,
            "metadata": {
                "query": {**window, "bucketSize": size, "podId": pod_id},
                "recordCount": len(records),
                "uniquePodCount": len({record["podId"] for record in records}),
                "totals": billing.totals(records),
            },
        }

    async def close(self) -> None:
        """End all pods."""
        for pod in self.pods.values():
            pod.log.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _allowed(self, body: Mapping[str, Any]) -> Gpu:
        """The GPU type asked for, if this account can have it and pay for it."""
        if self.holdings.balance_usd <= 0:
            raise Problem(402, "insufficient balance to create this pod")
        gpu = find(self.holdings.gpus, body["gpu"]["id"])
        if gpu.id in self.holdings.forbidden:
            raise Problem(403, "your account cannot access the requested pool")
        if body["gpu"].get("count", 1) > gpu.max_count:
            raise Problem(400, f"at most {gpu.max_count} GPUs of this type in one pod")
        if body.get("registry") not in self.holdings.registries | {None}:
            raise Problem(400, "registry credential not found")
        return gpu

    def _at_its_volume(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body, held to the data center of its network volume."""
        for mount in body.get("mounts", {}).get("network", []):
            volume = next((v for v in self.holdings.volumes if v.id == mount["volumeId"]), None)
            if volume is None:
                raise Problem(400, "network volume not found")
            if volume.data_center not in (body.get("dataCenterIds") or [volume.data_center]):
                raise Problem(400, f"network volume {volume.id} is in {volume.data_center}")
            return {**body, "dataCenterIds": [volume.data_center]}
        return body

    def _start(self, pod: PodState) -> None:
        if pod.status not in HAS_GPU:  # else, in ERROR, it has kept it
            self._take(pod)
        self._begin(pod)

    def _take(self, pod: PodState) -> None:
        """The GPU of its own host, to which a stopped pod stays assigned."""
        free = pod.gpu.free
        if free[pod.cloud, pod.data_center] < pod.count:
            why = "There are not enough free GPUs on the host machine to start this pod."
            raise Problem(400, why)
        free[pod.cloud, pod.data_center] -= pod.count
        pod.meter.start(self.now(), pod.price)

    def _begin(self, pod: PodState) -> None:
        pod.status, pod.started = "PROVISIONING", None
        task = asyncio.create_task(self._live(pod, pod.life), name=f"pod {pod.id}")
        pod.life = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, pod: PodState, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # its container may still be ending
            await asyncio.wait([before])
        await live(pod, self.pace, self._container, self.holdings.secrets, self.now)

    def _stop(self, pod: PodState, status: str) -> None:
        """Not waited for: who asks may live in the very container that ends."""
        if pod.status in HAS_GPU:
            pod.gpu.free[pod.cloud, pod.data_center] += pod.count
            pod.meter.stop(self.now())
            pod.log.add(self.now(), "system", "stop container")
        pod.status, pod.base_url = status, None
        if pod.life is not None:
            pod.life.cancel()

    def _new_id(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase + string.digits, k=14))
