"""`twilio numbers|point|restore|status`: the account's phone numbers, and where they point."""

from __future__ import annotations

import argparse
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from personaplex_bridge.cli import types
from personaplex_bridge.cli.common import FAILED, add_command, environment, run
from personaplex_bridge.errors import BridgeError, ConfigError, NumberError, WrongValue

if TYPE_CHECKING:
    from personaplex_bridge.numbers.desk import Desk

_TWILIO = """\
Points your Twilio numbers at a bridge and back, through Twilio's REST API: what else would be done
by hand in its console. `personaplex-bridge dev` does all of it for a laptop, while it runs.

  personaplex-bridge twilio numbers                          where each number points
  personaplex-bridge twilio point --url https://my-bridge.example
  personaplex-bridge twilio point +15550100 --persona noir   to PUBLIC_URL, with a persona
  personaplex-bridge twilio status                           is everything right?
  personaplex-bridge twilio restore                          as it was before

Needs TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (or TWILIO_API_KEY and TWILIO_API_SECRET) in .env.
"""

_POINT = """\
Lets a number's calls go to a bridge: sets its voice webhook, after keeping what it was in a file
(its path is printed). A TwiML app of the number's is taken out, as it would go before the webhook;
a number of a SIP trunk is refused. Fallback URL and status callback stay. Safe to repeat.
"""

_RESTORE = """\
Puts back what `point` or a killed `dev` has changed of a number: webhook, its method, TwiML app. If
somebody has changed the number since, it is left alone; --force puts back all that was kept,
fallback URL and status callback too.
"""

_STATUS = """\
Looks at the account and at each number that points to a bridge: does the bridge answer there, does
it refuse strangers, and does it take what is signed with TWILIO_AUTH_TOKEN for Twilio's? No model's
line is taken for that. The exit code is 1 if something needs mending.
"""


def add(commands: Any) -> None:
    """Add this module's commands."""
    parser = commands.add_parser(
        "twilio",
        help="point your Twilio numbers at a bridge, and back",
        description=_TWILIO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    text = "Lists the account's numbers that take calls, and where each points."
    add_command(own, "numbers", _with_desk(_numbers), "list numbers", text)
    _add_point(own)
    restore = add_command(own, "restore", _with_desk(_restore), "point a number back", _RESTORE)
    which = restore.add_mutually_exclusive_group()
    which.add_argument("number", nargs="?", type=types.phone_number, metavar="NUMBER")
    which.add_argument("--all", action="store_true", help="every number that something is kept of")
    restore.add_argument("--force", action="store_true", help="even if somebody has changed it")
    add_command(own, "status", _with_desk(_status), "look at account and numbers", _STATUS)


def _add_point(own: Any) -> None:
    parser = add_command(own, "point", _with_desk(_point), "point a number at a bridge", _POINT)
    parser.add_argument(
        "number",
        nargs="?",
        type=types.phone_number,
        metavar="NUMBER",
        help="such as +15550100 (default: the account's only one)",
    )
    parser.add_argument(
        "--url", type=types.public_url, help="https://host of the bridge (default: PUBLIC_URL)"
    )
    parser.add_argument("--persona", help="who answers (default: the bridge's own default)")


def _with_desk(
    command: Callable[[Desk, argparse.Namespace], Awaitable[bool]],
) -> Callable[[argparse.Namespace], int]:
    """Run a command with the account at hand; it returns whether all is well."""

    async def at_desk(arguments: argparse.Namespace) -> bool:
        from personaplex_bridge.numbers.desk import open_desk

        async with open_desk(environment()) as desk:
            return await command(desk, arguments)

    return lambda arguments: 0 if run(at_desk(arguments)) else FAILED


async def _numbers(desk: Desk, _arguments: argparse.Namespace) -> bool:
    numbers = await desk.numbers()
    for number in numbers:
        name = "" if _digits(number.name) in number.number else f"  {number.name}"
        print(f"{number.number}{name}  {number.routing.told}{desk.marks(number)}")
    if not numbers:
        print("This account has no number that takes calls: buy one with Voice in the console.")
    return True


async def _point(desk: Desk, arguments: argparse.Namespace) -> bool:
    base = arguments.url or desk.public_url
    if base is None:
        wrong = WrongValue("PUBLIC_URL", "", "the bridge's https://host; or give --url")
        raise ConfigError(wrong)
    done = await desk.point(arguments.number, base, arguments.persona)
    print(f"{done.number.number} points to {done.number.routing.told}")
    if done.before is None:
        print("It did so before: there is nothing to put back.")
        return True
    print(f"Before: {done.before.told}. Kept in {desk.kept_in(done.number)}")
    print(f"note: {await desk.limit()}")
    print("`personaplex-bridge twilio status` looks whether the bridge answers there.")
    return True


async def _restore(desk: Desk, arguments: argparse.Namespace) -> bool:
    kept = await desk.kept(arguments.number)
    if not kept:
        print("Nothing is kept: no number is to be put back.")
        return True
    if len(kept) > 1 and not arguments.all:
        sids = {each.number_sid for each in kept}
        choices = [each.number for each in await desk.numbers() if each.sid in sids]
        why = f"{len(kept)} numbers are to be put back: say which, or --all"
        raise NumberError(why, tuple(choices))
    well = True
    for each in kept:  # each by itself: one that can't be put back doesn't keep the others
        try:
            done = await desk.restore(each, force=arguments.force)
        except BridgeError as error:
            print(f"error: {error}")
            well = False
        else:
            print(f"{done.number.number} was at {done.was.told}")
            print(f"  and is at {done.number.routing.told} again")
    return well


async def _status(desk: Desk, _arguments: argparse.Namespace) -> bool:
    well = True
    async for finding in desk.status():
        print(finding, flush=True)
        well = well and finding.is_well
    return well


def _digits(name: str) -> str:
    """Twilio names a number (555) 010-0100, unless it is given another name; then what isn't a
    digit counts, too.
    """
    return re.sub(r"[\s().+-]", "", name)
