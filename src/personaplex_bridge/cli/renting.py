"""What the commands of `runpod` do. Each takes its arguments and returns the exit code."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personaplex_bridge import signals
from personaplex_bridge.cli import env_file
from personaplex_bridge.cli.common import FAILED, USAGE, environment, run
from personaplex_bridge.logs import configure

if TYPE_CHECKING:
    from personaplex_bridge.runpod.answers import Pod, Spent
    from personaplex_bridge.runpod.api import RunPod
    from personaplex_bridge.runpod.description import PodDescription
    from personaplex_bridge.runpod.following import Ready
    from personaplex_bridge.runpod.settings import RunPodSettings

T = TypeVar("T")


def _settings() -> RunPodSettings:
    from personaplex_bridge.runpod.settings import read_runpod_settings, with_key

    settings = with_key(read_runpod_settings(environment()))
    configure("WARNING", settings.secrets)
    return settings


def _ask(settings: RunPodSettings, work: Callable[[RunPod], Coroutine[Any, Any, T]]) -> T:
    """Do some work with RunPod's API. Questions to people are asked outside of it: an event loop
    would swallow their Ctrl-C.
    """
    result: T = run(_connected(settings, work))
    return result


async def _connected(
    settings: RunPodSettings, work: Callable[[RunPod], Coroutine[Any, Any, T]]
) -> T:
    from personaplex_bridge.runpod.api import RunPod

    _end_in_order()
    async with RunPod(settings.runpod_api_key, settings.runpod_api_url) as runpod:
        return await work(runpod)


def _end_in_order() -> None:
    """Ctrl-C, SIGTERM and the end of a terminal cancel: what was rented is given back.

    A second Ctrl-C cancels that, too. Left to asyncio, it would break into the event loop's end.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None and sys.platform != "win32":
        for number in signals.unless_ignored(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)


def _description(arguments: argparse.Namespace) -> PodDescription:
    from personaplex_bridge.runpod.description import read_description

    return read_description(arguments.pod, name=arguments.name, image=arguments.image)


def _name(arguments: argparse.Namespace) -> str:
    """The pod's name; the description is needed only where the command line doesn't say it."""
    if arguments.name or arguments.id:
        return str(arguments.name or arguments.id)
    from personaplex_bridge.runpod.description import read_name

    return read_name(arguments.pod)


def _pod(arguments: argparse.Namespace, settings: RunPodSettings) -> Pod:
    """The pod that a command is about."""
    from personaplex_bridge.runpod import own

    name = _name(arguments)
    return _ask(settings, lambda runpod: own.existing(runpod, name, arguments.id))


def _agrees(question: str) -> bool:
    """Whether somebody at a terminal says yes; nobody there: no."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input(question).strip().lower() in ("", "y", "yes")


def up(arguments: argparse.Namespace) -> int:
    """Find the pod, start it or make it; wait until it is ready."""
    settings, description = _settings(), _description(arguments)
    if arguments.dry_run:
        return _ask(settings, lambda runpod: _dry_run(runpod, description))
    return _have(arguments, settings, description, may_make=True)


def start(arguments: argparse.Namespace) -> int:
    """Start a pod that exists, however it is described; wait until it is ready."""
    from personaplex_bridge.runpod.description import PodDescription

    settings = _settings()
    description = PodDescription(name=_name(arguments), image="", types=())
    return _have(arguments, settings, description, may_make=False)


def _have(
    arguments: argparse.Namespace,
    settings: RunPodSettings,
    description: PodDescription,
    may_make: bool,
) -> int:
    from personaplex_bridge.runpod.progress import Progress
    from personaplex_bridge.runpod.up import Plan, up

    progress = Progress(sys.stderr)
    plan = Plan(timeout_s=arguments.timeout * 60, keep=arguments.keep, may_make=may_make)

    async def work(runpod: RunPod) -> Ready:
        runpod.tell = lambda line: progress.tell("waiting", line)
        return await up(runpod, description, settings, plan, progress.tell, arguments.id)

    try:
        ready = _ask(settings, work)
        progress.tell("ready", f"ready: the model is {ready.gate.status}")
    finally:
        progress.close()
    _show(ready)
    _offer(ready, arguments, settings)
    return 0


def _show(ready: Ready) -> None:
    from personaplex_bridge.runpod.report import price

    print(f"PERSONAPLEX_URL={ready.url}")
    print(f"This costs {price(ready.pod.cost)}, until `personaplex-bridge runpod stop`.")


def _offer(ready: Ready, arguments: argparse.Namespace, settings: RunPodSettings) -> None:
    """Write .env, if that is wanted."""
    file, question = Path(".env"), "Write PERSONAPLEX_URL into .env? [Y/n] "
    known = env_file.current(file, "PERSONAPLEX_URL") == ready.url
    if not (arguments.no_env or known) and (arguments.write_env or _agrees(question)):
        before = env_file.write(file, "PERSONAPLEX_URL", ready.url)
        print(f"{file} has it now." + (f" Before, it was {before}" if before else ""))
    if os.environ.get("PERSONAPLEX_URL", ready.url) != ready.url:
        print("The environment has another PERSONAPLEX_URL, which wins over .env.")
    if not settings.personaplex_token:
        print(
            "PERSONAPLEX_TOKEN is not set: the gate asks for it. Put into .env what you have put "
            "into RunPod's secret PERSONAPLEX_TOKEN."
        )
    elif ready.gate.token_fits is False:
        print("The gate doesn't take PERSONAPLEX_TOKEN: RunPod's secret has another value.")


async def _dry_run(runpod: RunPod, description: PodDescription) -> int:
    from personaplex_bridge.runpod import own, renting

    pods = await own.named(runpod, description.name)
    for pod in pods:
        print(f"There is a pod {pod.id} with this name, {pod.status}: `up` would go on with it.")
    centers = await renting.data_centers(runpod, description)
    choice = await renting.candidates(runpod, description, centers)
    print("Candidates, in this order:")
    for candidate in choice.candidates:
        print(f"  {candidate}")
    for reason in choice.left_out:
        print(f"  not: {reason}")
    first = choice.candidates[0]
    print("The first request, POST /v2/pods:")
    print(json.dumps(description.request(first.gpu_id, first.cloud, centers), indent=2))
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Tell how the pod and its model do."""
    from personaplex_bridge.runpod.gate import GateState, ask_gate, gate_session
    from personaplex_bridge.runpod.report import status_lines

    settings = _settings()
    pod = _pod(arguments, settings)
    url = settings.url(pod.id, pod.port)

    async def ask() -> GateState:
        async with gate_session(url) as http:
            return await ask_gate(http, url, settings.personaplex_token)

    gate: GateState | None = run(ask()) if pod.status == "RUNNING" else None
    print("\n".join(status_lines(pod, url, gate)))
    failed = pod.status == "ERROR" or (gate is not None and gate.status == "failed")
    return FAILED if failed else 0


def logs(arguments: argparse.Namespace) -> int:
    """Print the pod's log."""
    from personaplex_bridge.runpod import own

    name, quiet_s = _name(arguments), None if arguments.follow else own.LOG_QUIET_S

    async def work(runpod: RunPod) -> int:
        pod = await own.existing(runpod, name, arguments.id)
        async for line in runpod.logs(pod.id, arguments.source, arguments.tail, quiet_s=quiet_s):
            print(own.shown(line), flush=True)
        return 0

    return _ask(_settings(), work)


def stop(arguments: argparse.Namespace) -> int:
    """Give the GPU back."""
    settings = _settings()
    pod = _pod(arguments, settings)
    if pod.status == "EXITED":
        print(f"Pod {pod.id} is stopped already.")
        return 0
    if pod.status == "ERROR":
        print(f"Pod {pod.id} is in ERROR, where it can't be stopped: `runpod down` deletes it.")
        return FAILED
    _ask(settings, lambda runpod: runpod.act(pod.id, "stop"))
    print(f"Pod {pod.id} is stopped. Its GPU costs nothing any more; its volume does.")
    return 0


def down(arguments: argparse.Namespace) -> int:
    """Delete the pod, after asking."""
    from personaplex_bridge.runpod.report import what_goes

    settings = _settings()
    pod = _pod(arguments, settings)
    print("\n".join(what_goes(pod)), flush=True)
    if not arguments.yes:
        if not sys.stdin.isatty():
            print("error: nobody is there to be asked: say --yes", file=sys.stderr)
            return USAGE
        if input(f"Type {pod.name} to delete it: ").strip() != pod.name:
            print("Nothing was deleted.")
            return FAILED
    _ask(settings, lambda runpod: runpod.delete(pod.id))
    print(f"Pod {pod.id} is deleted.")
    _tell_of_env(settings.url(pod.id, pod.port))
    return 0


def _tell_of_env(gone: str) -> None:
    """Whether .env still leads to an address that is no more."""
    file = Path(".env")
    if env_file.current(file, "PERSONAPLEX_URL") == gone:
        print(
            f"{file} still has its PERSONAPLEX_URL, where nobody answers any more: the next `up` "
            "changes it; without the line a stand-in for the model is used."
        )


def cost(arguments: argparse.Namespace) -> int:
    """Tell what was spent."""
    from personaplex_bridge.runpod import own, report

    name = "" if arguments.all else _name(arguments)

    async def work(runpod: RunPod) -> tuple[Pod | None, list[Spent]]:
        pod = None if arguments.all else await own.find(runpod, name, arguments.id)
        return pod, await runpod.billing(pod.id if pod else None, arguments.days)

    pod, spent = _ask(_settings(), work)
    whose = f"Pod {pod.id}" if pod else "All pods of the account"
    print("\n".join(report.cost_lines(spent, arguments.days, whose)))
    if pod is None:
        print("\n".join(report.cost_by_pod(spent)))
    elif pod.cost:
        print(f"Now: {report.price(pod.cost)}.")
    else:
        print(f"Now: {pod.status}, no GPU is paid for; its volume is.")
    return 0
