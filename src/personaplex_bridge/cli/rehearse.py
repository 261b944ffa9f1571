"""`rehearse`: the outside services, played on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from personaplex_bridge.cli import types
from personaplex_bridge.cli.common import add_command, run

_REHEARSE = """\
Plays RunPod, Twilio, ngrok and the Hugging Face hub on this machine, as strictly as they are, so
that `runpod`, `dev`, `twilio`, `doctor` and `gate` can be tried without an account and without
paying. Pods that are rented here run a real gate with a stand-in for the model; the number can be
called with `personaplex-bridge call --number`. Nothing leaves this machine. The settings that lead
here are in rehearsal.env while it runs.

  personaplex-bridge rehearse
  personaplex-bridge rehearse --speed 1            pods take as long as in life
  personaplex-bridge rehearse --trial              a Twilio account that is not upgraded
  personaplex-bridge rehearse --no-licence         the model's licence has not been accepted

docs/rehearse.md walks through it.
"""


def add(commands: Any) -> None:
    """Add this module's command."""
    parser = add_command(
        commands, "rehearse", _rehearse, "play RunPod, Twilio and ngrok here", _REHEARSE
    )
    parser.add_argument(
        "--port",
        type=types.number(0, 65_000),
        default=9700,
        help="RunPod's; three more follow it (default %(default)s)",
    )
    parser.add_argument(
        "--number",
        type=types.phone_number,
        action="append",
        metavar="NUMBER",
        help="a number of the Twilio account; may be given several times (default +15550100)",
    )
    parser.add_argument("--trial", action="store_true", help="a Twilio account not upgraded")
    parser.add_argument(
        "--no-licence", action="store_true", help="the model's licence was not accepted"
    )
    parser.add_argument(
        "--speed",
        type=types.number(1, 1000),
        default=20,
        help="how much faster than in life pods come up (default %(default)s)",
    )
    parser.add_argument(
        "--openapi",
        type=Path,
        metavar="FILE",
        help="check requests against RunPod's OpenAPI document, too (needs the jsonschema package)",
    )


def _rehearse(arguments: argparse.Namespace) -> int:
    from personaplex_bridge.rehearsal import Options, rehearse

    numbers = tuple(dict.fromkeys(arguments.number or ["+15550100"]))
    run(
        rehearse(
            Options(
                arguments.port,
                numbers,
                arguments.trial,
                arguments.speed,
                not arguments.no_licence,
                arguments.openapi,
            )
        )
    )
    return 0
