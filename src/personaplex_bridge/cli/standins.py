"""`standin-twilio`: an account, its numbers and an ngrok agent that are simulated."""

from __future__ import annotations

import argparse
from typing import Any

from personaplex_bridge.cli import types
from personaplex_bridge.cli.common import add_command, run

_STANDIN = """\
Runs stand-ins for Twilio's REST API and for the ngrok agent, to try `dev`, `twilio` and `doctor`
without an account. Nothing leaves this machine: a tunnel's public address is a port of it. The
lines that are printed go into .env; the number can then be called with `personaplex-bridge call`,
at the webhook that `dev` or `twilio numbers` tells.

  personaplex-bridge standin-twilio
  personaplex-bridge standin-twilio --trial --number +15550100 --number +15550101
"""


def add(commands: Any) -> None:
    """Add this module's commands."""
    parser = add_command(
        commands, "standin-twilio", _run, "run stand-ins for Twilio's API and ngrok", _STANDIN
    )
    port = types.number(0, 65535)
    parser.add_argument(
        "--port", type=port, default=8997, help="Twilio's API (default %(default)s)"
    )
    parser.add_argument(
        "--ngrok-port", type=port, default=4040, help="the ngrok agent (default %(default)s)"
    )
    parser.add_argument(
        "--number",
        type=types.phone_number,
        action="append",
        metavar="NUMBER",
        help="a number of the account; may be given several times (default +15550100)",
    )
    parser.add_argument("--trial", action="store_true", help="an account that is not upgraded")


def _run(arguments: argparse.Namespace) -> int:
    run(_serve(arguments))
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    from personaplex_bridge.signals import until_signal
    from personaplex_bridge.simulator.ngrok_agent import NgrokAgentStandin
    from personaplex_bridge.simulator.twilio_rest import TwilioStandin
    from personaplex_bridge.web.hosting import hosted

    twilio = TwilioStandin(kind="Trial" if arguments.trial else "Full")
    for number in dict.fromkeys(arguments.number or ["+15550100"]):
        twilio.add_number(number)
    agent = NgrokAgentStandin()
    host = "127.0.0.1"
    async with (
        hosted(twilio.application(), host, arguments.port) as port,
        hosted(agent.application(), host, arguments.ngrok_port) as ngrok_port,
    ):
        print(f"TWILIO_API_URL=http://{host}:{port}")
        print(f"TWILIO_ACCOUNT_SID={twilio.account_sid}")
        print(f"TWILIO_AUTH_TOKEN={twilio.auth_token}")
        print(f"NGROK_API_URL=http://{host}:{ngrok_port}", flush=True)
        await until_signal()
