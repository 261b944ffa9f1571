"""`runpod up|status|logs|stop|start|down|cost`: renting the model's GPU."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from personaplex_bridge import logs
from personaplex_bridge.cli import env_file, types
from personaplex_bridge.cli.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    add_command,
    environment,
    run,
)

if TYPE_CHECKING:
    from personaplex_bridge.runpod.answers import Pod, Spent
    from personaplex_bridge.runpod.api import RunPod
    from personaplex_bridge.runpod.description import PodDescription
    from personaplex_bridge.runpod.following import Ready
    from personaplex_bridge.runpod.settings import RunPodSettings

DEFAULT_POD = Path("deploy/runpod/pod.toml")

_RUNPOD = """\
Rents a GPU at RunPod, runs PersonaPlex behind its gate on it, and tells what that costs. What is
rented stands in one file, deploy/runpod/pod.toml; docs/runpod.md goes through it step by step.

  personaplex-bridge runpod up          from nothing to PERSONAPLEX_URL; safe to repeat
  personaplex-bridge runpod status      the pod, the model in it, the price
  personaplex-bridge runpod stop        the GPU costs nothing any more; storage does
  personaplex-bridge runpod start       go on after a stop
  personaplex-bridge runpod down        delete the pod
  personaplex-bridge runpod cost        what was spent, by day

Needs RUNPOD_API_KEY, from https://console.runpod.io/user/settings (API Keys), in .env or in the
environment. The exit code is 0 if all went well, 1 if not, 2 for wrong settings, 130 after Ctrl-C.
"""

_UP = """\
Finds the pod of the description by its name, and starts it if it is stopped; or makes one, of the
first GPU type in the description's order (or the cheapest) that is free now. Then waits until the
model takes calls, telling each stage: the first time it downloads 16.7 GB of weights, which takes
5 to 60 minutes; later a minute or two. At the end it prints PERSONAPLEX_URL and the price, and
offers to write the address into .env.

If it fails, or at Ctrl-C, the pod it has made or started is stopped again, so that its GPU costs
nothing. A pod that ran before is left alone.

  personaplex-bridge runpod up
  personaplex-bridge runpod up --image ghcr.io/you/personaplex:0.2 --write-env
  personaplex-bridge runpod up --dry-run        what would be asked of RunPod; asks for nothing
"""

_STATUS = """\
Tells the pod's state, GPU, storage, price and address, and how the model in it does. With
PERSONAPLEX_TOKEN the gate also tells how long the model takes for a step of 80 ms of sound. The
exit code is 1 if there is no such pod, or it or its model has failed.
"""

_LOGS = """\
Prints the pod's log: of its container (gate and model), and of the system (image pulls, starts).

  personaplex-bridge runpod logs --tail 200
  personaplex-bridge runpod logs --follow --source container
"""

_STOP = """\
Stops the pod. Its GPU costs nothing from then on; its volume is kept and goes on costing, what is
outside of the volume is lost. `start` needs a GPU on the same host, which may be taken by then.
"""

_START = """\
Starts the stopped pod and waits until the model takes calls, as `up` does; never makes a new one.
"""

_DOWN = """\
Deletes the pod, after asking. Its persistent volume goes with it; a network volume stays, and goes
on costing.
"""

_COST = """\
Tells what the pod has cost, by day, from RunPod's billing; without a pod of that name, or with
--all, what all pods of the account have cost. Volumes of their own (network volumes) are billed
apart and are not in it.
"""

Command: TypeAlias = Callable[[argparse.Namespace], int]
T = TypeVar("T")


def add(commands: Any) -> None:
    """Add this module's commands."""
    parser = commands.add_parser(
        "runpod",
        help="rent the model's GPU at RunPod",
        description=_RUNPOD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_up(_command(group, "up", _up, "have the pod run, and the model ready", _UP))
    _command(group, "status", _status, "how the pod and its model do", _STATUS, by_id=True)
    _add_logs(_command(group, "logs", _logs, "what the pod says", _LOGS, by_id=True))
    _command(group, "stop", _stop, "stop paying for the GPU", _STOP, by_id=True)
    start = _command(group, "start", _start, "go on after a stop", _START, by_id=True)
    _add_waiting(start)
    down = _command(group, "down", _down, "delete the pod", _DOWN, by_id=True)
    down.add_argument("--yes", action="store_true", help="don't ask")
    _add_cost(_command(group, "cost", _cost, "what was spent", _COST, by_id=True))


def _command(
    group: Any, name: str, command: Command, help_: str, text: str, by_id: bool = False
) -> argparse.ArgumentParser:
    def in_order(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except asyncio.CancelledError:  # SIGTERM, SIGHUP
            return INTERRUPTED

    parser = add_command(group, name, in_order, help_, text)
    parser.add_argument(
        "--pod",
        type=Path,
        default=DEFAULT_POD,
        metavar="FILE",
        help="the pod's description (default %(default)s)",
    )
    parser.add_argument("--name", help="the pod's name, instead of the description's")
    parser.set_defaults(image=None, id=None)
    if by_id:
        parser.add_argument(
            "--id", metavar="POD_ID", help="the pod with this id, whatever its name"
        )
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", help="the image, instead of the description's")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read the catalogue, print the request that would be sent, send nothing",
    )
    _add_waiting(parser)


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=types.number(1, 24 * 60),
        default=60,
        metavar="MINUTES",
        help="give up then (default %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the pod running if it doesn't come up"
    )
    env = parser.add_mutually_exclusive_group()
    env.add_argument(
        "--write-env", action="store_true", help="write PERSONAPLEX_URL into .env without asking"
    )
    env.add_argument("--no-env", action="store_true", help="neither write it nor ask")


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C")
    parser.add_argument(
        "--tail",
        type=types.number(0, 5000),
        default=100,
        metavar="N",
        help="the last N lines (default %(default)s)",
    )
    parser.add_argument(
        "--source", choices=("container", "system"), help="one of the two logs (default: both)"
    )


def _add_cost(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=types.number(1, 366), default=30, help="so many (default %(default)s)"
    )
    parser.add_argument("--all", action="store_true", help="all pods of the account")


# ---------------------------------------------------------------------------- running


def _settings() -> RunPodSettings:
    from personaplex_bridge.runpod.settings import read_runpod_settings, with_key

    settings = with_key(read_runpod_settings(environment()))
    logs.configure("WARNING", settings.secrets)
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
    """SIGTERM, and the end of a terminal, as Ctrl-C: what was rented is given back."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGHUP"):
        if task is not None and hasattr(signal, name):
            loop.add_signal_handler(getattr(signal, name), task.cancel)


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


# ------------------------------------------------------------------------------- commands


def _up(arguments: argparse.Namespace) -> int:
    settings, description = _settings(), _description(arguments)
    if arguments.dry_run:
        return _ask(settings, lambda runpod: _dry_run(runpod, description))
    return _have(arguments, settings, description, may_make=True)


def _start(arguments: argparse.Namespace) -> int:
    return _have(arguments, _settings(), _description(arguments), may_make=False)


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


def _status(arguments: argparse.Namespace) -> int:
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


def _logs(arguments: argparse.Namespace) -> int:
    from personaplex_bridge.runpod import own

    name, quiet_s = _name(arguments), None if arguments.follow else own.LOG_QUIET_S

    async def work(runpod: RunPod) -> int:
        pod = await own.existing(runpod, name, arguments.id)
        async for line in runpod.logs(pod.id, arguments.source, arguments.tail, quiet_s=quiet_s):
            print(own.shown(line), flush=True)
        return 0

    return _ask(_settings(), work)


def _stop(arguments: argparse.Namespace) -> int:
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


def _down(arguments: argparse.Namespace) -> int:
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
    return 0


def _cost(arguments: argparse.Namespace) -> int:
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
