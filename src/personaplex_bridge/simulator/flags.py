"""The stand-ins' faults as flags of a command line."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from personaplex_bridge.simulator import faults
from personaplex_bridge.simulator.faults import CallFaults, Jitter, ModelFaults

T = TypeVar("T")

_SPELLS = """AT+FOR is a spell in seconds: 10+2 lasts from 10 s to 12 s.
Flags that need a spell may be given several times."""
_MODEL = f"What goes wrong at the model. Times count from its handshake.\n{_SPELLS}"
_CALL = f"What goes wrong at Twilio and the phone. Times count from the stream's start.\n{_SPELLS}"


def add_model_faults(parser: argparse.ArgumentParser) -> None:
    """The model's faults."""
    group = parser.add_argument_group("faults of the model", _MODEL)
    add = group.add_argument
    add(
        "--pause",
        **_spells(faults.parse_spell, "AT+FOR"),
        help="it answers nothing, and catches up afterwards at --step-ms a frame",
    )
    add(
        "--block",
        **_spells(faults.parse_spell, "AT+FOR"),
        help="its socket is neither read nor written, as when the network stalls",
    )
    add(
        "--slow",
        **_spells(faults.parse_slow, "SPEED@AT+FOR"),
        help="it runs at SPEED times real time: 0.8@10+20 takes 100 ms for each 80 ms",
    )
    add(
        "--jitter-ms",
        type=_of(faults.parse_jitter),
        metavar="MS[@AT+FOR]",
        help="each of its messages is late by 0 to MS; the order is kept",
    )
    add(
        "--drift-ppm",
        type=_of(faults.parse_drift_ppm),
        metavar="PPM",
        help="it answers by a clock of its own, slower by so many millionths (negative: faster); "
        "without this flag by its input alone, as the real server does",
    )
    add("--lose", **_every(), help="every Nth page of its audio is lost")
    add("--corrupt", **_every(), help="every Nth page holds a packet that can't be decoded")


def model_faults(arguments: argparse.Namespace) -> ModelFaults:
    """What `add_model_faults` gave."""
    return ModelFaults(
        pause=tuple(arguments.pause),
        block=tuple(arguments.block),
        slow=tuple(arguments.slow),
        jitter=_seeded(arguments.jitter_ms, arguments.seed),
        drift_ppm=arguments.drift_ppm,
        lose=arguments.lose,
        corrupt=arguments.corrupt,
    )


def add_call_faults(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """The phone's faults, each flag with `prefix`: `phone-` where the model's are there too."""
    group = parser.add_argument_group("faults of the call", _CALL)

    def add(flag: str, **settings: Any) -> None:
        name = "call_" + flag.replace("-", "_")
        group.add_argument(f"--{prefix}{flag}", dest=name, **settings)

    add(
        "block",
        **_spells(faults.parse_spell, "AT+FOR"),
        help="the media socket is neither read nor written; the caller's frames come in one burst "
        "afterwards, and the caller hears what had arrived before",
    )
    add(
        "lose-frames",
        **_spells(faults.parse_spell, "AT+FOR"),
        help="the caller's frames of that time are lost",
    )
    add("lose", **_every(), help="every Nth of the caller's frames is lost")
    add("double", **_every(), help="every Nth of the caller's frames comes twice")
    add(
        "jitter-ms",
        type=_of(faults.parse_jitter),
        metavar="MS[@AT+FOR]",
        help="each of Twilio's messages is late by 0 to MS; the order is kept",
    )
    add(
        "drift-ppm",
        type=_of(faults.parse_drift_ppm),
        default=0.0,
        metavar="PPM",
        help="the phone's clock is faster by so many millionths (negative: slower)",
    )
    add(
        "answer-after",
        type=_of(faults.parse_wait_s),
        default=0.0,
        metavar="SECONDS",
        help="from the webhook's answer to the media socket (Twilio: a few tenths)",
    )


def add_endings(parser: argparse.ArgumentParser) -> None:
    """What becomes of a call that no model takes."""
    parser.add_argument(
        "--hang-up-holding",
        type=_of(faults.parse_wait_s),
        metavar="SECONDS",
        help="the caller hangs up after so long in the queue",
    )
    parser.add_argument(
        "--dial-status",
        choices=faults.DIAL_STATUSES,
        default="completed",
        help="what comes of a call that is forwarded (default %(default)s)",
    )


def add_never_connects(parser: argparse.ArgumentParser) -> None:
    """The fault that leaves no call to look at."""
    parser.add_argument(
        "--never-connects",
        action="store_true",
        help="post the webhook, and never open the media socket",
    )


def call_faults(arguments: argparse.Namespace) -> CallFaults:
    """What `add_call_faults` gave, whatever the prefix."""
    return CallFaults(
        block=tuple(arguments.call_block),
        lose_frames=tuple(arguments.call_lose_frames),
        lose=arguments.call_lose,
        double=arguments.call_double,
        jitter=_seeded(arguments.call_jitter_ms, arguments.seed),
        drift_ppm=arguments.call_drift_ppm,
        answer_after_s=arguments.call_answer_after,
        never_connects=getattr(arguments, "never_connects", False),
        hang_up_holding_s=getattr(arguments, "hang_up_holding", None),
        dial_status=getattr(arguments, "dial_status", "completed"),
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """The seed of all that is random in the faults: once a parser."""
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="another number, another jitter (default %(default)s)",
    )


def _spells(parse: Callable[[str], object], form: str) -> dict[str, Any]:
    return {"type": _of(parse), "action": "append", "default": [], "metavar": form}


def _every() -> dict[str, Any]:
    return {"type": _of(faults.parse_every), "default": 0, "metavar": "N"}


def _of(parse: Callable[[str], T]) -> Callable[[str], T]:
    """With its own words in argparse's error message."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _seeded(jitter: Jitter | None, seed: int) -> Jitter | None:
    return None if jitter is None else dataclasses.replace(jitter, seed=seed)
