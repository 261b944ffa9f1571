"""The console command. Each command imports only what it needs."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

from personaplex_bridge import __version__, logs
from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.errors import BridgeError, ConfigError, WrongValue
from personaplex_bridge.simulator import flags

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_DESCRIPTION = """\
Puts phone callers in live conversation with NVIDIA PersonaPlex: Twilio Media Streams on one
side, the model server's WebSocket on the other.

  personaplex-bridge demo        hear a whole call on this machine; no GPU, no account
  personaplex-bridge doctor      see what is missing, and how to mend it
  personaplex-bridge serve       the bridge itself; settings come from the environment and .env
"""

_SERVE = """\
Runs the bridge until Ctrl-C, which ends the calls in progress, or SIGTERM, which lets them go on
for up to DRAIN_TIMEOUT and takes no new ones.

Settings come from the environment and from .env in this folder (the environment wins); see
.env.example for all of them. Without PERSONAPLEX_URL, calls reach a stand-in that repeats what
the caller says. In Twilio's console, point the number's voice webhook at
  https://YOUR-HOST/voice/inbound                    the default persona
  https://YOUR-HOST/voice/inbound?persona=noir       a persona of your choice
"""

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
  personaplex-bridge call hello.wav --calls 20 --hang-up-after 30
  personaplex-bridge call hello.wav --block 5+1.5 --jitter-ms 60

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        for wrong in error.wrong:
            print(f"error: {wrong}", file=sys.stderr)
        return USAGE
    except (BridgeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="personaplex-bridge",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_demo(commands)
    _add_call(commands)
    _add_standin(commands)
    _add_doctor(commands)
    return parser


def _add(commands: Any, name: str, run: Any, help_: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_serve(commands: Any) -> None:
    parser = _add(commands, "serve", _serve, "run the bridge", _SERVE)
    parser.add_argument("--host", help="address to listen on, instead of HOST")
    parser.add_argument("--port", help="port to listen on, instead of PORT (8080)")


def _add_standin(commands: Any) -> None:
    parser = _add(commands, "standin", _standin, "run a stand-in for the model server", _STANDIN)
    parser.add_argument("--host", default="127.0.0.1", help="address (default %(default)s)")
    parser.add_argument(
        "--port", type=_number(0, 65535), default=8998, help="port (default %(default)s)"
    )
    _add_model_options(parser)
    parser.add_argument(
        "--sessions",
        type=_number(1, 1000),
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
        type=_number(0, 600_000),
        default=500,
        metavar="MS",
        help="from connection to handshake (default %(default)s; a real one: 4000 to 8000)",
    )
    parser.add_argument(
        "--step-ms",
        type=_number(0, 10_000),
        default=40,
        metavar="MS",
        help="one model step (default %(default)s); above 80 it can't keep up, as a slow GPU",
    )


def _add_call(commands: Any) -> None:
    parser = _add(commands, "call", _call, "call a bridge, as Twilio would", _CALL)
    parser.add_argument("sound", type=Path, metavar="WAV", help="WAV, FLAC, Ogg or MP3, any rate")
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8080/voice/inbound",
        help="the voice webhook (default %(default)s)",
    )
    parser.add_argument("--from", dest="caller", default="+15550111", help="caller's number")
    parser.add_argument("--to", dest="called", default="+15550100", help="called number")
    parser.add_argument(
        "--auth-token",
        default=None,
        help="sign requests with this token (default: TWILIO_AUTH_TOKEN, if set)",
    )
    parser.add_argument(
        "--repeat", type=_number(1, 10_000), default=1, help="play the file so many times"
    )
    parser.add_argument("--calls", type=_number(1, 1000), default=1, help="so many calls at once")
    parser.add_argument(
        "--dtmf",
        type=_key,
        action="append",
        default=[],
        metavar="KEY@SECONDS",
        help="press a key; may be given several times",
    )
    parser.add_argument(
        "--hang-up-after",
        type=_seconds,
        metavar="SECONDS",
        help="hang up then (default: when all is said and nothing was heard for 2 s)",
    )
    parser.add_argument(
        "--out",
        type=_wav_file,
        help="write what the caller heard (with --calls: numbered files)",
    )
    flags.add_endings(parser)
    flags.add_never_connects(parser)
    flags.add_seed(parser)
    flags.add_call_faults(parser)


def _add_demo(commands: Any) -> None:
    parser = _add(commands, "demo", _demo, "hear a whole call on this machine", _DEMO)
    parser.add_argument("--wav", type=Path, help="the caller's voice (default: one that ships)")
    parser.add_argument("--repeat", type=_number(1, 1000), default=1, help="play it so many times")
    parser.add_argument(
        "--out",
        type=_folder,
        default=Path("demo-output"),
        metavar="FOLDER",
        help="where to write (default %(default)s)",
    )
    _add_model_options(parser)
    flags.add_seed(parser)
    flags.add_model_faults(parser)
    flags.add_call_faults(parser, "phone-")


def _add_doctor(commands: Any) -> None:
    text = "Checks libraries, settings, port and model server; says what is wrong and how to mend."
    _add(commands, "doctor", _doctor, "see what is missing, and how to mend it", text)


def _serve(arguments: argparse.Namespace) -> int:
    from personaplex_bridge.serve import serve

    given = {"HOST": arguments.host, "PORT": arguments.port}
    settings = _settings({name: value for name, value in given.items() if value is not None})
    logs.configure(settings.log_level, settings.secrets)
    _run(serve(settings))
    return 0


def _standin(arguments: argparse.Namespace) -> int:
    logs.configure("INFO")
    _run(_serve_standin(arguments))
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
    from personaplex_bridge.audio.files import read_as_mulaw
    from personaplex_bridge.simulator.caller import NO_ACCOUNT, CallPlan
    from personaplex_bridge.simulator.calls import make_calls

    tokens = arguments.auth_token or _environment().get("TWILIO_AUTH_TOKEN") or ""
    plan = CallPlan(
        webhook_url=arguments.url,
        speech=read_as_mulaw(arguments.sound, arguments.repeat),
        caller=arguments.caller,
        called=arguments.called,
        auth_token=tokens.split(",")[0].strip() or None,  # Twilio has one, of those we take
        account_sid=_environment().get("TWILIO_ACCOUNT_SID") or NO_ACCOUNT,
        keys=tuple(sorted(arguments.dtmf)),
        hang_up_after_s=arguments.hang_up_after,
        faults=flags.call_faults(arguments),
    )
    return int(_run(make_calls(plan, arguments.calls, arguments.out)))


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
        options = DemoOptions(sound, arguments.out, arguments.repeat, model, call)
        result = _run(run_demo(options, settings))
    print()
    print("\n".join(f"  {line}" for line in report_lines(result)))
    print(f"\nListen to {arguments.out / 'stereo.wav'} (caller left, model right),")
    print(f"and look at {arguments.out / 'timeline.png'}.")
    return 0 if result.went_well else FAILED


def _doctor(_arguments: argparse.Namespace) -> int:
    from personaplex_bridge.doctor import examine

    return FAILED if _run(examine(_environment())) else 0


def _model_options(arguments: argparse.Namespace) -> Any:
    from personaplex_bridge.simulator.model import ModelOptions

    sessions = getattr(arguments, "sessions", 1)
    faults = flags.model_faults(arguments)
    return ModelOptions(arguments.behave, arguments.prompt_ms, arguments.step_ms, sessions, faults)


def _environment() -> dict[str, str]:
    """The environment, over what .env in this folder says."""
    from dotenv import dotenv_values

    try:
        file = dotenv_values(".env")
    except UnicodeDecodeError as error:
        wrong = WrongValue(".env", str(error.object[:20]), "text in UTF-8")
        raise ConfigError(wrong) from error
    return {**{name: value for name, value in file.items() if value is not None}, **os.environ}


def _settings(given: dict[str, str]) -> Settings:
    return read_settings({**_environment(), **given})


def _run(main_task: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end on the fastest event loop there is."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main_task)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:  # not made for Windows
        return asyncio.new_event_loop
    return new_event_loop


def _number(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 4 * 3600:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds, above 0 and up to 14400"
        )
    return seconds


def _wav_file(text: str) -> Path:
    """Checked before the call, not after it."""
    path = Path(text)
    if path.suffix.lower() != ".wav" or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no .wav file in a folder that exists")
    return path


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} exists and is no folder")
    return path


def _key(text: str) -> tuple[float, str]:
    key, at, moment = text.partition("@")
    if key not in set("0123456789*#ABCD") or not at:
        _refuse(f"{text!r} is not of the form KEY@SECONDS, such as 1@2.5")
    return _seconds(moment), key


def _refuse(why: str) -> NoReturn:
    raise argparse.ArgumentTypeError(why)
