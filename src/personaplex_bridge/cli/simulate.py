"""`demo`, `call` and `standin`: calls and models that are simulated."""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from personaplex_bridge import logs
from personaplex_bridge.cli import types
from personaplex_bridge.cli.common import FAILED, add_command, environment, run
from personaplex_bridge.config import Settings
from personaplex_bridge.simulator import flags

_STANDIN = """\
Runs a stand-in for the PersonaPlex model server, on the same protocol and as unforgiving, with
no model in it. Point a bridge at it with PERSONAPLEX_URL=ws://127.0.0.1:8998.

  personaplex-bridge standin --behave echo
  personaplex-bridge standin --pause 10+2 --jitter-ms 120      what a bad day looks like
"""

_CALL = """\
Calls a bridge as Twilio would: posts the webhook, obeys the TwiML, opens the media socket, sends
the sound file as the caller's voice in real time, and writes what the caller heard.

  personaplex-bridge call hello.wav
  personaplex-bridge call hello.wav --url 'http://127.0.0.1:8080/voice/inbound?persona=noir'
  personaplex-bridge call hello.wav --dtmf 1@2.5 --dtmf 2@3 --out heard.wav
  personaplex-bridge call hello.wav --number +15550100      where this number of yours points
  personaplex-bridge call hello.wav --calls 20 --hang-up-after 30
  personaplex-bridge call hello.wav --block 5+1.5 --jitter-ms 60
  personaplex-bridge call hello.wav --hd --out heard.wav      as the page at /phone does, at 24 kHz

(A bridge takes as many calls at once as its model servers do. What becomes of the others is up to
WHEN_BUSY: as shipped, they hold, and are connected in order. The exit code is 1 if the model didn't
answer a call, or a call was cut off.)
"""

_DEMO = """\
Makes a whole call on this machine, over real sockets: a caller (a stand-in for Twilio) plays a
sound file, the bridge carries it, and a stand-in for the model repeats each sentence after a
pause. Then look into the folder: caller.wav, heard.wav, stereo.wav (caller left, model right),
transcript.txt, timeline.png, report.txt.

  personaplex-bridge demo --wav hello.wav --behave echo
  personaplex-bridge demo --pause 10+2 --phone-jitter-ms 120   and hear what that does
"""

_WHAT_IT_DOES = {
    "repeat": "it repeats each sentence once the caller pauses",
    "echo": "it says at once what it hears",
    "tone": "it says one tone",
    "silence": "it says nothing",
    "talk": "it talks without a pause until it is interrupted",
}


def add(commands: Any) -> None:
    """Add this module's commands."""
    _add_demo(commands)
    _add_call(commands)
    _add_standin(commands)


def _add_standin(commands: Any) -> None:
    parser = add_command(
        commands, "standin", _standin, "run a stand-in for the model server", _STANDIN
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default %(default)s)")
    parser.add_argument(
        "--port", type=types.number(0, 65535), default=8998, help="port (default %(default)s)"
    )
    _add_model_options(parser)
    parser.add_argument(
        "--sessions",
        type=types.number(1, 1000),
        default=1,
        help="how many at a time (default %(default)s, as the real server; more for load tests)",
    )
    flags.add_seed(parser)
    flags.add_model_faults(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--behave",
        choices=list(_WHAT_IT_DOES),
        default="repeat",
        help="; ".join(f"{name}: {what}" for name, what in _WHAT_IT_DOES.items())
        + " (default %(default)s)",
    )
    parser.add_argument(
        "--prompt-ms",
        type=types.number(0, 600_000),
        default=500,
        metavar="MS",
        help="from connection to handshake (default %(default)s; a real one: 4000 to 8000)",
    )
    parser.add_argument(
        "--step-ms",
        type=types.number(0, 10_000),
        default=40,
        metavar="MS",
        help="one model step (default %(default)s); above 80 it can't keep up, as a slow GPU",
    )


def _add_call(commands: Any) -> None:
    parser = add_command(commands, "call", _call, "call a bridge, as Twilio would", _CALL)
    parser.add_argument("sound", type=Path, metavar="WAV", help="WAV, FLAC, Ogg or MP3, any rate")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url",
        default="http://127.0.0.1:8080/voice/inbound",
        help="the voice webhook (default %(default)s)",
    )
    where.add_argument(
        "--number",
        type=types.phone_number,
        help="a number of your Twilio account: the webhook that Twilio's API tells of it",
    )
    parser.add_argument(
        "--hd",
        action="store_true",
        help="call as the page at /phone does, with HD on: no webhook, 24 kHz "
        "(of --url, host and query count; CONSOLE_TOKEN, if set, is shown)",
    )
    parser.add_argument("--from", dest="caller", default="+15550111", help="caller's number")
    parser.add_argument("--to", dest="called", default="+15550100", help="called number")
    parser.add_argument(
        "--auth-token",
        default=None,
        help="sign requests with this token (default: TWILIO_AUTH_TOKEN, if set)",
    )
    parser.add_argument(
        "--repeat", type=types.number(1, 10_000), default=1, help="play the file so many times"
    )
    parser.add_argument(
        "--calls", type=types.number(1, 1000), default=1, help="so many calls at once"
    )
    parser.add_argument(
        "--dtmf",
        type=types.key,
        action="append",
        default=[],
        metavar="KEY@SECONDS",
        help="press a key; may be given several times",
    )
    parser.add_argument(
        "--hang-up-after",
        type=types.seconds,
        metavar="SECONDS",
        help="hang up then (default: when all is said and nothing was heard for 2 s)",
    )
    parser.add_argument(
        "--out",
        type=types.wav_file,
        help="write what the caller heard (with --calls: numbered files)",
    )
    flags.add_endings(parser)
    flags.add_never_connects(parser)
    flags.add_seed(parser)
    flags.add_call_faults(parser)


def _add_demo(commands: Any) -> None:
    parser = add_command(commands, "demo", _demo, "hear a whole call on this machine", _DEMO)
    parser.add_argument("--wav", type=Path, help="the caller's voice (default: one that ships)")
    parser.add_argument(
        "--repeat", type=types.number(1, 1000), default=1, help="play it so many times"
    )
    parser.add_argument(
        "--out",
        type=types.folder,
        default=Path("demo-output"),
        metavar="FOLDER",
        help="where to write (default %(default)s)",
    )
    parser.add_argument(
        "--record", action="store_true", help="record it as RECORDING=yes does: recording.opus"
    )
    _add_model_options(parser)
    flags.add_seed(parser)
    flags.add_model_faults(parser)
    flags.add_call_faults(parser, "phone-")


def _standin(arguments: argparse.Namespace) -> int:
    logs.configure("INFO")
    run(_serve_standin(arguments))
    return 0


async def _serve_standin(arguments: argparse.Namespace) -> None:
    from personaplex_bridge.signals import until_signal
    from personaplex_bridge.simulator.model import ModelServer
    from personaplex_bridge.web.hosting import hosted

    app = ModelServer(_model_options(arguments)).application()
    async with hosted(app, arguments.host, arguments.port) as port:
        print(f"stand-in model server: PERSONAPLEX_URL=ws://{arguments.host}:{port}", flush=True)
        await until_signal()


def _call(arguments: argparse.Namespace) -> int:
    from personaplex_bridge.audio.files import read_media
    from personaplex_bridge.audio.format import HD, TELEPHONE
    from personaplex_bridge.simulator.browser import BrowserPhone
    from personaplex_bridge.simulator.caller import NO_ACCOUNT, CallPlan
    from personaplex_bridge.simulator.calls import make_calls, twilio_phones

    audio_format = HD if arguments.hd else TELEPHONE
    url, called = arguments.url, arguments.called
    if arguments.number is not None:
        url, called = run(_webhook_of(arguments.number)), arguments.number
    tokens = arguments.auth_token or environment().get("TWILIO_AUTH_TOKEN") or ""
    plan = CallPlan(
        webhook_url=url,
        speech=read_media(arguments.sound, audio_format, arguments.repeat),
        caller=arguments.caller,
        called=called,
        auth_token=tokens.split(",")[0].strip() or None,  # Twilio has one, of those we take
        account_sid=environment().get("TWILIO_ACCOUNT_SID") or NO_ACCOUNT,
        keys=tuple(sorted(arguments.dtmf)),
        hang_up_after_s=arguments.hang_up_after,
        faults=flags.call_faults(arguments),
        audio_format=audio_format,
    )
    make_phone = twilio_phones()
    if arguments.hd:
        make_phone = partial(BrowserPhone, console_token=environment().get("CONSOLE_TOKEN") or None)
    return int(run(make_calls(plan, arguments.calls, arguments.out, make_phone)))


async def _webhook_of(number: str) -> str:
    from personaplex_bridge.numbers.desk import open_desk

    async with open_desk(environment()) as desk:
        return await desk.webhook(number)


def _demo(arguments: argparse.Namespace) -> int:
    from importlib import resources

    from personaplex_bridge.simulator.demo import DemoOptions, report_lines, run_demo

    shipped = resources.files("personaplex_bridge").joinpath("data/caller.flac")
    settings = dataclasses.replace(Settings(), log_level="WARNING")
    logs.configure(settings.log_level)
    model = _model_options(arguments)
    with resources.as_file(shipped) as path:
        sound = arguments.wav or path
        print(f"Calling the bridge on this machine; the caller plays {sound.name}.")
        print(f"The model is a stand-in: {_WHAT_IT_DOES[arguments.behave]}.")
        call = flags.call_faults(arguments)
        options = DemoOptions(sound, arguments.out, arguments.repeat, model, call, arguments.record)
        result = run(run_demo(options, settings))
    print()
    print("\n".join(f"  {line}" for line in report_lines(result)))
    print(f"\nListen to {arguments.out / 'stereo.wav'} (caller left, model right),")
    print(f"and look at {arguments.out / 'timeline.png'}.")
    return 0 if result.went_well else FAILED


def _model_options(arguments: argparse.Namespace) -> Any:
    from personaplex_bridge.simulator.model import ModelOptions

    sessions = getattr(arguments, "sessions", 1)
    faults = flags.model_faults(arguments)
    return ModelOptions(arguments.behave, arguments.prompt_ms, arguments.step_ms, sessions, faults)
