"""`dev`: a bridge on a laptop, reachable by phone while it runs."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from personaplex_bridge.cli import types
from personaplex_bridge.cli.common import add_command, environment, run

_DEV = """\
Makes the bridge on this machine reachable by phone until Ctrl-C: runs it as `serve` does, opens a
tunnel to it, points your Twilio number here, and looks at the whole chain. At its end, however it
ends, the number does again what it did before.

  personaplex-bridge dev                          the account's only number
  personaplex-bridge dev --number +15550100       one of several
  personaplex-bridge dev --persona noir           with another default persona
  personaplex-bridge dev --no-number              bridge and tunnel only

Needs TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN in .env, and a way in from the internet: a running
ngrok agent, the ngrok package with NGROK_AUTHTOKEN, or any other tunnel at PUBLIC_URL.
docs/phone.md has it step by step. (If this process is killed with -9, the next `dev` or
`personaplex-bridge twilio restore` puts the number back.)
"""


def add(commands: Any) -> None:
    """Add this module's commands."""
    parser = add_command(commands, "dev", _dev, "take calls from your phone, on this machine", _DEV)
    parser.add_argument(
        "--number", type=types.phone_number, help="the Twilio number, such as +15550100"
    )
    parser.add_argument("--port", help="port to listen on, instead of PORT (8080)")
    parser.add_argument("--persona", help="the default persona, instead of PERSONA")
    parser.add_argument(
        "--no-number", action="store_true", help="point no number; Twilio's account isn't asked"
    )


def _dev(arguments: argparse.Namespace) -> int:
    from personaplex_bridge import logs
    from personaplex_bridge.config import read_settings
    from personaplex_bridge.dev.command import DevPlan, dev
    from personaplex_bridge.dev.settings import read_tunnel_settings
    from personaplex_bridge.numbers.saved import SavedNumbers, state_folder
    from personaplex_bridge.numbers.settings import check_complete, read_account_settings

    given = {"PORT": arguments.port, "PERSONA": arguments.persona}
    environ = {**environment(), **{name: value for name, value in given.items() if value}}
    settings = read_settings(environ)
    account, tunnel = read_account_settings(environ), read_tunnel_settings(environ)
    if not arguments.no_number:
        check_complete(account, signs=True)
    secrets = (*settings.secrets, *account.secrets, *tunnel.secrets)
    logs.configure(settings.log_level, secrets)
    saved = SavedNumbers(state_folder(environ))
    number, points = arguments.number, not arguments.no_number
    run(dev(DevPlan(settings, account, tunnel, saved, number, points), _tell))
    return 0


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone; the number is put back all the same
        print(line, flush=True)
