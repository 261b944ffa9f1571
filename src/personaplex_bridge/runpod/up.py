"""`runpod up`: from a description to a model that takes calls; back to no costs if that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from personaplex_bridge.errors import PodError, RunPodError
from personaplex_bridge.runpod import own, renting
from personaplex_bridge.runpod.answers import Pod
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.runpod.description import PodDescription
from personaplex_bridge.runpod.following import POLL_S, Follower, Ready
from personaplex_bridge.runpod.renting import Tell
from personaplex_bridge.runpod.settings import PODS_PAGE, RunPodSettings

GIVE_BACK_S = 60.0
"""The most that stopping a pod after a failure may take."""

LATE_S = (0.0, 3.0, 5.0, 7.0)
"""Pauses between looks for what a request that was given up on may still do: RunPod carries it out,
whoever waits for the answer.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How `up` is to go about it."""

    timeout_s: float = 3600.0
    poll_s: float = POLL_S
    keep: bool = False
    """Leave the pod running after a failure."""

    may_make: bool = True
    """Whether a new pod may be made. If not, there has to be one (`start`), and of the description
    only the name counts.
    """


class Rental:
    """What this run has to give back if it fails."""

    def __init__(self, runpod: RunPod, name: str, keep: bool, tell: Tell) -> None:
        self.pod: Pod | None = None
        self.was_running = False
        self.was_made = False
        self.making: Collection[str] | None = None
        """Ids of older pods with this name, while a request to make one is under way."""
        self.starting = False
        """While a request to start the pod is under way."""

        self._runpod = runpod
        self._name = name
        self._keep = keep
        self._tell = tell

    async def give_back(self) -> None:
        """Stop the pod that this run has made or started. Says what became of it; never raises."""
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await self._find_late()
                if self.pod is not None:
                    await self._stop(self.pod)
        except (RunPodError, PodError, TimeoutError, asyncio.CancelledError) as error:
            self._alarm(error)

    async def _find_late(self) -> None:
        """The pod of a request whose answer wasn't waited for."""
        if self.making is None:
            return
        self._tell("stopping", "looking whether a pod was made all the same")
        for pause_s in LATE_S:
            await asyncio.sleep(pause_s)
            pods = await own.named(self._runpod, self._name)
            self.pod = next((pod for pod in pods if pod.id not in self.making), None)
            if self.pod is not None:
                self.was_made = True
                return
        self._tell("stopped", f"no pod named {self._name} was made, says RunPod's list")

    async def _stop(self, pod: Pod) -> None:
        if self.was_running:
            self._tell("kept", f"pod {pod.id} was running before, and is left alone{_costs(pod)}")
        elif self._keep:
            self._tell("kept", f"pod {pod.id} is left as it is (--keep){_costs(pod)}")
        else:
            self._tell("stopping", f"stopping pod {pod.id}; Ctrl-C leaves it running")
            await self._wait_for_start(pod)
            await self._stopped(pod)

    async def _wait_for_start(self, pod: Pod) -> None:
        """Until a request to start it, whose answer wasn't waited for, has had its effect."""
        for pause_s in LATE_S if self.starting else ():
            await asyncio.sleep(pause_s)
            if (await self._runpod.pod(pod.id)).has_gpu:
                return

    async def _stopped(self, pod: Pod) -> None:
        try:
            await self._runpod.act(pod.id, "stop")
        except RunPodError as error:
            if error.status == 404:
                self._tell("stopped", f"pod {pod.id} is gone")
                return
            if error.status != 409:
                raise
            await self._unstoppable(await self._runpod.pod(pod.id), error)
        else:
            self._tell(
                "stopped", f"pod {pod.id} is stopped: its GPU costs nothing any more, its disk does"
            )

    async def _unstoppable(self, pod: Pod, error: RunPodError) -> None:
        """Stopped already; or in ERROR, where RunPod only allows to delete it, and it may cost."""
        if pod.status == "EXITED":
            self._tell("stopped", f"pod {pod.id} is stopped")
        elif self.was_made and pod.status == "ERROR":  # it never ran: there is nothing to lose
            await self._runpod.delete(pod.id)
            self._tell("stopped", f"pod {pod.id} could not be stopped, and is deleted")
        else:
            why = f"RunPod can't stop it in {pod.status}: delete it, with `runpod down`"
            raise PodError(why) from error

    def _alarm(self, error: BaseException) -> None:
        why = str(error) or type(error).__name__
        pod = self.pod
        if pod is None:
            what = f"NOT KNOWN whether a pod named {self._name} was made ({why}). Look with "
            what += f"`personaplex-bridge runpod status`, or at {PODS_PAGE}"
        else:
            what = f"POD {pod.id} MAY STILL RUN, at ${pod.cost:.2f} an hour ({why}). Stop it with "
            what += f"`personaplex-bridge runpod stop --id {pod.id}`, or at {own.console(pod.id)}"
        self._tell("alarm", what)


async def up(
    runpod: RunPod,
    description: PodDescription,
    settings: RunPodSettings,
    plan: Plan,
    tell: Tell,
    pod_id: str | None = None,
) -> Ready:
    """Have the pod of this description run, and wait until its model takes calls.

    When that fails or is cancelled, a pod that was made or started here is stopped again.

    Raises:
        PodError, RunPodError: it can't be had, or did not come up in time.
    """
    rental = Rental(runpod, description.name, plan.keep, tell)
    stage = _Stage(tell)
    try:
        try:
            async with asyncio.timeout(plan.timeout_s):
                await _rent(runpod, description, plan, rental, stage, pod_id)
                return await _follow(runpod, settings, plan, rental, stage)
        except TimeoutError:
            minutes = plan.timeout_s / 60
            raise PodError(f"not ready after {minutes:g} minutes; last: {stage.line}") from None
    except BaseException:  # cancelled, too
        await rental.give_back()
        raise


async def _rent(
    runpod: RunPod,
    description: PodDescription,
    plan: Plan,
    rental: Rental,
    tell: Tell,
    pod_id: str | None,
) -> None:
    """Find the pod, start it, or make it."""
    if plan.may_make and pod_id is None:
        pods = await own.named(runpod, description.name)
        pod = own.only(pods, description.name)
    else:
        pod = await own.existing(runpod, description.name, pod_id)
    if pod is None:
        rental.pod = await _make(runpod, description, rental, tell)
        gpu = f"{rental.pod.gpu} in {rental.pod.data_center or rental.pod.cloud}"
        tell("made", f"pod {rental.pod.id}: {gpu}, ${rental.pod.cost:.2f} an hour")
        return
    if plan.may_make and (differs := renting.differences(pod, description)):
        tell(
            "differs",
            f"pod {pod.id} is otherwise than described, and left so: {'; '.join(differs)}",
        )
    rental.was_running = pod.has_gpu
    rental.pod = pod
    if pod.has_gpu:
        tell("found", f"pod {pod.id} is {pod.status} already")
    else:
        tell("found", f"starting pod {pod.id}, which is {pod.status}")
        rental.pod = await _start(runpod, pod, rental)


async def _start(runpod: RunPod, pod: Pod, rental: Rental) -> Pod:
    """The stopped pod, started. Until it is known, the rental knows that it may be."""
    rental.starting = True
    try:
        started = await renting.start(runpod, pod)
    except (PodError, RunPodError) as error:
        rental.starting = getattr(error, "uncertain", False)
        raise
    rental.starting = False
    return started


async def _make(runpod: RunPod, description: PodDescription, rental: Rental, tell: Tell) -> Pod:
    """A new pod. Until it is known, the rental knows that there may be one."""
    known = ()  # this account has none of that name

    def on_request() -> None:
        rental.making = known

    try:
        pod = await renting.make(runpod, description, known, tell, on_request)
    except (PodError, RunPodError) as error:
        if not getattr(error, "uncertain", False):
            rental.making = None
        raise
    rental.making, rental.was_made = None, True
    return pod


async def _follow(
    runpod: RunPod,
    settings: RunPodSettings,
    plan: Plan,
    rental: Rental,
    tell: Tell,
) -> Ready:
    assert rental.pod is not None  # noqa: S101 - rented before
    follower = Follower(runpod, rental.pod, settings, tell, plan.poll_s)
    try:
        return await follower.until_ready()
    finally:
        rental.pod = follower.pod  # it may have moved


class _Stage:
    """Passes on what is told, and remembers the last of it."""

    def __init__(self, tell: Tell) -> None:
        self.line = "nothing"
        self._tell = tell

    def __call__(self, stage: str, line: str) -> None:
        if stage != "log":
            self.line = line
        self._tell(stage, line)


def _costs(pod: Pod) -> str:
    return f", at ${pod.cost:.2f} an hour" if pod.cost else ""
