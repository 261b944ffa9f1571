"""Finding one's own pod: by its name, which RunPod doesn't hold to be unique."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from urllib.parse import quote

from personaplex_bridge.errors import PodError, RunPodError
from personaplex_bridge.runpod.answers import LogLine, LogSource, Pod
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.runpod.gate import one_line
from personaplex_bridge.runpod.settings import PODS_PAGE

LAST_LINES = 15

LOG_QUIET_S = 2.0
"""The history of a log is over when nothing comes for so long."""


def console(pod_id: str) -> str:
    """The page of a pod in RunPod's console."""
    return f"{PODS_PAGE}?id={quote(pod_id, safe='')}"


async def named(runpod: RunPod, name: str) -> list[Pod]:
    """All pods with this name that aren't deleted."""
    return [pod for pod in await runpod.pods() if pod.name == name and pod.status != "TERMINATED"]


async def find(runpod: RunPod, name: str, pod_id: str | None = None) -> Pod | None:
    """The pod with this name, or of this id; None if there is none.

    Raises:
        PodError: several have that name.
    """
    if pod_id is None:
        return only(await named(runpod, name), name)
    try:
        return await runpod.pod(pod_id)
    except RunPodError as error:
        if error.status == 404:
            return None
        raise


def only(pods: list[Pod], name: str) -> Pod | None:
    """The one of these pods, or None if there is none.

    Raises:
        PodError: there are several.
    """
    if len(pods) > 1:
        ids = ", ".join(f"{pod.id} ({pod.status})" for pod in pods)
        raise PodError(
            f"{len(pods)} pods are named {name}: {ids}. Delete those that are too many with "
            "`personaplex-bridge runpod down --id ID`, or choose another name"
        )
    return pods[0] if pods else None


async def existing(runpod: RunPod, name: str, pod_id: str | None = None) -> Pod:
    """The same, where there has to be one.

    Raises:
        PodError: there is none, or several.
    """
    pod = await find(runpod, name, pod_id)
    if pod is None:
        which = f"named {name}" if pod_id is None else f"with the id {pod_id}"
        raise PodError(f"this account has no pod {which}; `personaplex-bridge runpod up` makes one")
    return pod


async def last_lines(
    runpod: RunPod, pod_id: str, source: LogSource | None = None, count: int = LAST_LINES
) -> list[LogLine]:
    """The end of a pod's log, as far as it can be had."""
    lines: list[LogLine] = []
    try:
        async with (
            asyncio.timeout(4 * LOG_QUIET_S),
            aclosing(runpod.logs(pod_id, source, tail=count, quiet_s=LOG_QUIET_S)) as log,
        ):
            async for line in log:
                lines.append(line)  # noqa: PERF401 - those before an error count too
    except (RunPodError, TimeoutError):
        pass
    return lines[-count:]


def shown(line: LogLine) -> str:
    """A line of a log for a terminal."""
    return f"{line.time} {line.source:9} {one_line(line.line, 2000)}"
