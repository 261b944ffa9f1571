"""Following a pod until its gate says that the model takes calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from personaplex_bridge.errors import PodError, RunPodError
from personaplex_bridge.runpod.answers import COMING, Pod
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.runpod.gate import GateState, ask_gate, gate_session, one_line
from personaplex_bridge.runpod.own import last_lines, named, only, shown
from personaplex_bridge.runpod.renting import Tell
from personaplex_bridge.runpod.settings import RunPodSettings

POLL_S = 5.0
"""Between looks at a pod: 12 of the 60 requests that RunPod allows a minute."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A pod whose model takes calls."""

    pod: Pod
    url: str
    """PERSONAPLEX_URL."""

    gate: GateState


class SystemLog:
    """The last line of the host's log, such as the progress of pulling the image."""

    def __init__(self) -> None:
        self.last = ""

    async def read(self, runpod: RunPod, pod_id: str) -> None:
        """Keep up with it, as long as it can be had: it is only for show."""
        try:
            async with aclosing(runpod.logs(pod_id, "system", tail=1)) as lines:
                async for line in lines:
                    self.last = one_line(line.line, 100)
        except RunPodError:
            return


@asynccontextmanager
async def _system_log(runpod: RunPod, pod_id: str) -> AsyncIterator[SystemLog]:
    log = SystemLog()
    task = asyncio.create_task(log.read(runpod, pod_id))
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.wait([task])


class Follower:
    """Follows one pod. `pod` is always the latest that is known of it."""

    def __init__(
        self,
        runpod: RunPod,
        pod: Pod,
        settings: RunPodSettings,
        tell: Tell,
        poll_s: float = POLL_S,
    ) -> None:
        self.pod = pod
        self._runpod = runpod
        self._settings = settings
        self._tell = tell
        self._poll_s = poll_s

    @property
    def url(self) -> str:
        """PERSONAPLEX_URL."""
        return self._settings.url(self.pod.id, self.pod.port)

    async def until_ready(self) -> Ready:
        """Return when the gate takes calls.

        Raises:
            PodError: the pod has failed, or stopped, or the model has failed.
            RunPodError: RunPod can't be asked any more.
        """
        async with gate_session(self._settings.runpod_proxy_url) as http:
            while True:
                async with _system_log(self._runpod, self.pod.id) as log:
                    ready = await self._while_in_place(http, log)
                if ready is not None:
                    return ready

    async def _while_in_place(self, http: aiohttp.ClientSession, log: SystemLog) -> Ready | None:
        """Until it is ready; None if it has moved."""
        while True:
            if self.pod.status == "RUNNING":
                gate = await ask_gate(http, self.url, self._settings.personaplex_token)
                if gate.is_up:
                    return Ready(self.pod, self.url, gate)
                await self._judge_gate(gate)
            elif self.pod.status in COMING:
                about = log.last or "waiting for RunPod"
                self._tell(self.pod.status, f"{self.pod.status.lower()}: {about}")
            else:
                raise await self._ended()
            await asyncio.sleep(self._poll_s)
            if await self._look():
                return None

    async def _judge_gate(self, gate: GateState) -> None:
        if gate.status == "failed":
            await self._show_log()
            raise PodError(f"the model in pod {self.pod.id} has failed: {gate.detail}")
        self._tell(f"gate {gate.stage or gate.status}", str(gate))

    async def _look(self) -> bool:
        """Look at the pod again; whether it has moved to another id (RunPod may migrate it)."""
        try:
            self.pod = await self._runpod.pod(self.pod.id)
        except RunPodError as error:
            if error.status != 404:
                raise
        else:
            return False
        moved = only(await named(self._runpod, self.pod.name), self.pod.name)
        if moved is None:
            raise PodError(f"pod {self.pod.id} is gone: somebody has deleted it")
        self.pod = moved
        self._tell("moved", f"RunPod has moved the pod; it is now {moved.id}, at {self.url}")
        return True

    async def _ended(self) -> PodError:
        await self._show_log()
        if self.pod.status == "ERROR":
            return PodError(f"pod {self.pod.id} is in ERROR: its container could not be run")
        return PodError(
            f"pod {self.pod.id} is {self.pod.status}: it was stopped by somebody, or by itself"
        )

    async def _show_log(self) -> None:
        for line in await last_lines(self._runpod, self.pod.id):
            self._tell("log", shown(line))
