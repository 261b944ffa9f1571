"""Getting a GPU: an existing pod started, or a new one made of the first candidate that is free."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from personaplex_bridge.errors import PodError, RunPodError
from personaplex_bridge.runpod.answers import COMING, Pod
from personaplex_bridge.runpod.api import RunPod
from personaplex_bridge.runpod.choose import Candidate, Choice, choose
from personaplex_bridge.runpod.description import NetworkVolume, PodDescription

Tell: TypeAlias = Callable[[str, str], None]
"""Takes a stage and a line about it: a new stage is news, a new line of the same one a change."""

BILLING_PAGE = "https://console.runpod.io/user/billing"


async def data_centers(runpod: RunPod, description: PodDescription) -> tuple[str, ...]:
    """Where the pod may be: as the description says, or where its network volume is.

    Raises:
        PodError: there is no such volume, or it is elsewhere.
    """
    if not isinstance(description.volume, NetworkVolume):
        return description.data_centers
    volumes = await runpod.network_volumes()
    wanted = description.volume.volume_id
    volume = next((volume for volume in volumes if volume.id == wanted), None)
    if volume is None:
        there = ", ".join(f"{volume.id} ({volume.name})" for volume in volumes) or "none"
        raise PodError(f"this account has no network volume {wanted}; it has: {there}")
    if description.data_centers and volume.data_center not in description.data_centers:
        raise PodError(
            f"the network volume {wanted} is in {volume.data_center}, and data_centers doesn't "
            "have it: a pod can only be where its network volume is"
        )
    return (volume.data_center,)


async def candidates(
    runpod: RunPod, description: PodDescription, centers: tuple[str, ...]
) -> Choice:
    """What could be rented now, best first.

    Raises:
        PodError: nothing; says why for each GPU type.
    """
    catalogues = {
        cloud: await runpod.gpus(cloud, description.min_cuda) for cloud in description.clouds
    }
    choice = choose(description, catalogues, centers)
    if not choice.candidates:
        reasons = "\n".join(f"  {reason}" for reason in choice.left_out)
        raise PodError(
            f"none of the GPU types can be had now:\n{reasons}\nTry again later, or give the "
            "description more types, clouds or data centers, or a higher max_price"
        )
    return choice


async def make(
    runpod: RunPod,
    description: PodDescription,
    known: Collection[str],
    tell: Tell,
    on_request: Callable[[], None],
) -> Pod:
    """A new pod, of the first candidate that RunPod can place (the table at createPod). From
    `on_request` on there may be one.

    Raises:
        PodError: none could be placed, or the account can't pay.
        RunPodError: the request is wrong, or RunPod can't be reached.
    """
    centers = await data_centers(runpod, description)
    choice = await candidates(runpod, description, centers)
    refused: list[RunPodError] = []
    for candidate in choice.candidates:
        tell("choosing", f"asking for {candidate}")
        body = description.request(candidate.gpu_id, candidate.cloud, centers)
        on_request()
        try:
            return await runpod.create(body, known)
        except RunPodError as error:
            refused.append(_passing(error, candidate, tell))
    raise _nothing(refused)


def _passing(error: RunPodError, candidate: Candidate, tell: Tell) -> RunPodError:
    """The error, if another candidate may fare better; else it is raised."""
    match error.status:
        case 400 | 403:
            tell("refused", f"{candidate.gpu_id}: {error.detail}")
            return error
        case 402:
            raise PodError(
                f"the balance doesn't suffice ({error.detail}): add to it at {BILLING_PAGE}"
            ) from error
        case 422:
            raise PodError(
                f"RunPod doesn't understand the request, which no other GPU would change: {error}"
            ) from error
        case _:
            raise error


def _nothing(refused: list[RunPodError]) -> PodError:
    last = refused[-1]
    if all(error.status == 400 for error in refused):
        # RunPod has one status for a broken rule and for lack of stock (createPod).
        return PodError(
            f"RunPod refused every candidate, the last one with: {last.detail}. If that speaks of "
            "the request, mend the description; if it speaks of capacity, try again later, or "
            "give the description more types, clouds or data centers"
        )
    return PodError(f"no candidate could be had; the last one: {last}")


async def start(runpod: RunPod, pod: Pod) -> Pod:
    """A stopped pod, started.

    Raises:
        PodError: its host has no GPU free.
    """
    try:
        started = await runpod.act(pod.id, "start")
    except RunPodError as error:
        if error.status not in (400, 409):
            raise
        now = await runpod.pod(pod.id)
        if now.status in COMING or now.status == "RUNNING":  # somebody else was faster
            return now
        raise PodError(_no_gpu(pod, error)) from error
    return started or pod


def _no_gpu(pod: Pod, error: RunPodError) -> str:
    kept = "its network volume, with the weights, stays"
    lost = "its volume goes with it, and the weights are downloaded again"
    return (
        f"pod {pod.id} can't be started now: {error.detail} A stopped pod stays on its host, whose "
        "GPUs may all be taken. Try again later; or `personaplex-bridge runpod down`, then `up`, "
        f"which rents elsewhere ({kept if pod.network_volume else lost})"
    )


def differences(pod: Pod, description: PodDescription) -> list[str]:
    """What an existing pod has otherwise than the description says. No values of `env`."""
    found = []
    if pod.image != description.image:
        found.append(f"image ({pod.image} there, {description.image} in the description)")
    if set(pod.ports) != set(description.ports):
        found.append("ports")
    env = [
        name
        for name, value in description.env.items()
        # RunPod may show what a reference stands for.
        if name not in pod.env or (pod.env[name] != value and "RUNPOD_SECRET_" not in value)
    ]
    return found + [f"env {name}" for name in env]
