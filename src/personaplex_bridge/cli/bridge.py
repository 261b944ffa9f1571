"""`serve` and `doctor`: the bridge itself."""

from __future__ import annotations

import argparse
import os
from typing import Any

from personaplex_bridge import logs
from personaplex_bridge.cli.common import FAILED, add_command, environment, run
from personaplex_bridge.config import read_settings

_SERVE = """\
Runs the bridge until Ctrl-C, which ends the calls in progress, or SIGTERM, which lets them go on
for up to DRAIN_TIMEOUT and takes no new ones.

Settings come from the environment and from .env in this folder (the environment wins); see
.env.example for all of them. Without PERSONAPLEX_URL, calls reach a stand-in that repeats what
the caller says. In Twilio's console, point the number's voice webhook at
  https://YOUR-HOST/voice/inbound                    the default persona
  https://YOUR-HOST/voice/inbound?persona=noir       a persona of your choice

To talk to the model without a telephone, open http://127.0.0.1:8080/phone in a browser.
"""


def add(commands: Any) -> None:
    """Add this module's commands."""
    _add_serve(commands)
    _add_doctor(commands)


def _add_serve(commands: Any) -> None:
    parser = add_command(commands, "serve", _serve, "run the bridge", _SERVE)
    parser.add_argument("--host", help="address to listen on, instead of HOST")
    parser.add_argument("--port", help="port to listen on, instead of PORT (8080)")


def _add_doctor(commands: Any) -> None:
    text = "Checks libraries, settings, port and model server; says what is wrong and how to mend."
    add_command(commands, "doctor", _doctor, "see what is missing, and how to mend it", text)


def _serve(arguments: argparse.Namespace) -> int:
    from personaplex_bridge.phone.softphone import read_softphone_settings
    from personaplex_bridge.serve import serve

    given = {"HOST": arguments.host, "PORT": arguments.port}
    environ = environment()
    settings = read_settings(
        {**environ, **{name: value for name, value in given.items() if value is not None}}
    )
    softphone = read_softphone_settings(environ)
    # The OpenTelemetry SDK reads its variables by itself, and doesn't know of .env.
    os.environ.update({name: environ[name] for name in environ if name.startswith("OTEL_")})
    secrets = (*settings.secrets, *softphone.secrets)
    logs.configure(settings.log_level, secrets, settings.log_format)
    run(serve(settings, softphone))
    return 0


def _doctor(_arguments: argparse.Namespace) -> int:
    from personaplex_bridge.doctor import examine

    return FAILED if run(examine(environment())) else 0
