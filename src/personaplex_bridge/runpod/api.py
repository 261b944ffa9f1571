"""RunPod's REST API v2, as far as renting one GPU needs it.

Requests that may safely be repeated are, a bounded number of times: after 429 (when Retry-After
says so), 5xx and trouble with the connection. Creating a pod is never repeated blindly, since that
could rent two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import quote

from personaplex_bridge.errors import RunPodError
from personaplex_bridge.runpod.answers import (
    Action,
    Cloud,
    GpuType,
    LogLine,
    LogSource,
    NetworkVolume,
    Pod,
    Spent,
    listed,
)
from personaplex_bridge.runpod.log_stream import LogStream
from personaplex_bridge.runpod.requests import Requests, may_pass

API_URL = "https://api.runpod.io"

MAX_TAIL = 5000
"""Most lines of history that RunPod gives."""

T = TypeVar("T")


class RunPod(Requests):
    """A client of RunPod's API. An async context manager; see `Requests` for its parameters.

        async with RunPod(key) as runpod:
            pods = await runpod.pods()

    Every method raises RunPodError.
    """

    def __init__(self, key: str, url: str = API_URL, **options: Any) -> None:
        super().__init__(key, url, **options)

    async def pods(self) -> list[Pod]:
        """The account's pods."""
        answer = await self.repeat("GET", "/v2/pods")
        return _all(answer, "pods", Pod.parse)

    async def pod(self, pod_id: str) -> Pod:
        """One pod; status 404 if it is gone."""
        return _parse(Pod.parse, await self.repeat("GET", _path(pod_id)))

    async def create(self, body: Mapping[str, Any], known: Collection[str] = ()) -> Pod:
        """Make a pod (`CreatePodRequest`). `known`: ids of older pods with this name.

        When an attempt's outcome is unknown, the pods are looked through for a new one of the same
        name before anything is repeated.
        """
        deadline = asyncio.get_running_loop().time() + self.patience.total_s
        attempt, uncertain = 1, False
        while True:
            try:
                if uncertain and (made := await self._made(str(body["name"]), known)):
                    return made
                uncertain = False
                return _parse(Pod.parse, await self.once("POST", "/v2/pods", body=body))
            except RunPodError as error:
                uncertain = error.uncertain = uncertain or error.uncertain
                if not may_pass(error):
                    raise
                await self.wait(attempt, error, deadline)
            attempt += 1

    async def act(self, pod_id: str, action: Action) -> Pod | None:
        """Start, stop, restart or terminate a pod; it as it is then, None once terminated.

        Status 409 if its state doesn't allow that.
        """
        try:
            body = {"action": action}
            answer = await self.repeat("POST", f"{_path(pod_id)}/action", body=body)
        except RunPodError as error:
            if not (error.uncertain and error.status in (404, 409)):
                raise
            return await self._done(pod_id, action, error)
        return None if answer is None else _parse(Pod.parse, answer)

    async def delete(self, pod_id: str) -> None:
        """Delete a pod, and its persistent volume. A network volume stays. Fine if it is gone."""
        try:
            await self.repeat("DELETE", _path(pod_id))
        except RunPodError as error:
            # aiohttp repeats a DELETE by itself when the connection breaks off, so that the
            # answer to the first one may never be seen.
            if error.status != 404:
                raise

    async def gpus(self, cloud: Cloud, min_cuda: str | None = None) -> list[GpuType]:
        """The catalogue, with the stock that a pod of one GPU finds in this cloud now."""
        query = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud}
        if min_cuda is not None:
            query["minCudaVersion"] = min_cuda
        return _all(await self.repeat("GET", "/v2/catalog/gpus", query), "gpus", GpuType.parse)

    async def network_volumes(self) -> list[NetworkVolume]:
        """The account's network volumes."""
        answer = await self.repeat("GET", "/v2/network-volumes")
        return _all(answer, "networkVolumes", NetworkVolume.parse)

    async def billing(self, pod_id: str | None = None, days: int = 30) -> list[Spent]:
        """What pods have cost on each of the last days, today's as far as it is known."""
        query = {"bucketSize": "day", "lastN": str(days)}
        if pod_id is not None:
            query["podId"] = pod_id
        return _all(await self.repeat("GET", "/v2/billing/pods", query), "records", Spent.parse)

    async def logs(
        self,
        pod_id: str,
        source: LogSource | None = None,
        tail: int = 100,
        since: str | None = None,
        quiet_s: float | None = None,
    ) -> AsyncGenerator[LogLine]:
        """Lines of a pod's log: the last `tail`, or all from `since` (RFC 3339), then new ones.

        `quiet_s`: end when no line came for so long, since the stream itself never ends; None:
        follow it. A stream that breaks off is taken up where it was, as often as
        `patience.attempts` times without a line in between.
        """
        query = {"tail": str(min(tail, MAX_TAIL))} if since is None else {"since": since}
        if source is not None:
            query["source"] = source
        stream = LogStream(self, f"{_path(pod_id)}/logs", query)
        async with aclosing(stream.lines(quiet_s)) as lines:
            async for line in lines:
                yield line

    async def _made(self, name: str, known: Collection[str]) -> Pod | None:
        """The pod that a request made whose answer never came."""
        pods = await self.pods()
        # One that is TERMINATED may still be listed: that is somebody's of yesterday.
        candidates = (pod for pod in pods if pod.name == name and pod.status != "TERMINATED")
        made = next((pod for pod in candidates if pod.id not in known), None)
        if made is not None:
            self.tell(f"pod {made.id} was made all the same")
        return made

    async def _done(self, pod_id: str, action: Action, error: RunPodError) -> Pod | None:
        """The pod, if an earlier attempt has done what this error says can't be done."""
        if error.status == 404:
            if action == "terminate":
                return None
            raise error
        pod = await self.pod(pod_id)
        if pod.has_gpu == (action != "stop"):
            return pod
        raise error


def _path(pod_id: str) -> str:
    return f"/v2/pods/{quote(pod_id, safe='')}"


def _parse(parse: Callable[[Any], T], answer: Any) -> T:
    try:
        return parse(answer)
    except ValueError as error:
        raise RunPodError(
            f"the answer is not what the contract says: {error}", status=200
        ) from error


def _all(answer: Any, name: str, parse: Callable[[Any], T]) -> list[T]:
    return _parse(lambda wrapped: [parse(item) for item in listed(wrapped, name)], answer)
