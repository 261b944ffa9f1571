"""`runpod up|status|logs|stop|start|down|cost`: renting the model's GPU."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from personaplex_bridge.cli import renting, types
from personaplex_bridge.cli.common import INTERRUPTED, add_command

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


def add(commands: Any) -> None:
    """Add this module's commands."""
    parser = commands.add_parser(
        "runpod",
        help="rent the model's GPU at RunPod",
        description=_RUNPOD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_up(_command(group, "up", renting.up, "have the pod run, and the model ready", _UP))
    _command(group, "status", renting.status, "how the pod and its model do", _STATUS, by_id=True)
    _add_logs(_command(group, "logs", renting.logs, "what the pod says", _LOGS, by_id=True))
    _command(group, "stop", renting.stop, "stop paying for the GPU", _STOP, by_id=True)
    start = _command(group, "start", renting.start, "go on after a stop", _START, by_id=True)
    _add_waiting(start)
    down = _command(group, "down", renting.down, "delete the pod", _DOWN, by_id=True)
    down.add_argument("--yes", action="store_true", help="don't ask")
    _add_cost(_command(group, "cost", renting.cost, "what was spent", _COST, by_id=True))


def _command(
    group: Any, name: str, command: Command, help_: str, text: str, by_id: bool = False
) -> argparse.ArgumentParser:
    def in_order(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except asyncio.CancelledError:  # Ctrl-C, SIGTERM, SIGHUP
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
