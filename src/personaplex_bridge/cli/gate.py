"""`gate`: what stands in front of a PersonaPlex server."""

from __future__ import annotations

import argparse
import os
from typing import Any

from personaplex_bridge import logs
from personaplex_bridge.cli.common import USAGE, add_command, environment, run
from personaplex_bridge.errors import ConfigError

_GATE = """\
Stands in front of one PersonaPlex server, which has no authentication, no health route, and lets
a second connection change the persona of the call in progress. The gate asks for a token, lets one
session in at a time and refuses everybody else before the upgrade, checks voice and prompt, ends
the sessions of clients that have vanished, and tells at /healthz how the model is. It runs until
Ctrl-C or SIGTERM.

With a COMMAND it starts that command, the model server, and stops it:
  personaplex-bridge gate -- python -m moshi.server --host 127.0.0.1 --port 8999

Settings come from the environment (and .env): GATE_TOKEN is what bridges give as
PERSONAPLEX_TOKEN, GATE_MODEL_URL is where the model server is (http://127.0.0.1:8999). See
.env.example for all of them, docs/gate.md for the rest. To try it on this machine:
  personaplex-bridge standin --port 8999                   a stand-in for the model
  personaplex-bridge gate --host 127.0.0.1                 the gate, on port 8998
  PERSONAPLEX_URL=ws://127.0.0.1:8998 personaplex-bridge serve
"""


def add(commands: Any) -> None:
    """Add this module's command."""
    help_ = "stand in front of a model server"
    parser = add_command(commands, "gate", _gate, help_, _GATE)
    parser.add_argument("--host", help="address to listen on, instead of GATE_HOST (0.0.0.0)")
    parser.add_argument("--port", help="port to listen on, instead of GATE_PORT (8998)")
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="after --: starts the model server"
    )


def _gate(arguments: argparse.Namespace) -> int:
    from personaplex_bridge.gate.run import run_gate, tell_why_not
    from personaplex_bridge.gate.settings import read_address, read_gate_settings

    given = {"GATE_HOST": arguments.host, "GATE_PORT": arguments.port}
    environ = _environment() | {name: value for name, value in given.items() if value is not None}
    try:
        settings = read_gate_settings(environ)
    except ConfigError as error:
        # In a pod a container that ends is started again and again, and nobody learns why.
        if not environ.get("RUNPOD_POD_ID"):
            raise
        logs.configure("INFO")
        run(tell_why_not(str(error), read_address(environ)))
        return USAGE
    logs.configure(settings.log_level, settings.secrets)
    return int(run(run_gate(settings, arguments.command)))


def _environment() -> dict[str, str]:
    try:
        return environment()
    except ImportError:  # the gate's image has no python-dotenv, and no .env either
        return dict(os.environ)
