"""What can go wrong, as options of the stand-ins, and how each is written on a command line.

Nothing goes wrong by default. Times are seconds since a zero that each stand-in states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_S = 4 * 3600
"""Twilio ends a call after four hours."""
MAX_JITTER_MS = 60_000
MAX_DRIFT_PPM = 100_000
MAX_EVERY = 1_000_000

DIAL_STATUSES = ("completed", "no-answer", "busy", "failed")
"""What can come of a `<Dial>`, in Twilio's words."""

FRAME_MS = 80
"""The model's frame: at speed 1, a step takes as long."""


@dataclass(frozen=True, slots=True)
class Spell:
    """A while: from `at_s` on, for `for_s` seconds."""

    at_s: float
    for_s: float

    @property
    def end_s(self) -> float:
        """The first moment after it."""
        return self.at_s + self.for_s

    def covers(self, moment_s: float) -> bool:
        """Whether a moment lies in it."""
        return self.at_s <= moment_s < self.end_s

    def since(self, zero_s: float) -> Spell:
        """The same on a clock that read `zero_s` at this one's zero."""
        return Spell(zero_s + self.at_s, self.for_s)


@dataclass(frozen=True, slots=True)
class Slow:
    """For a spell, the model runs at `speed` times real time."""

    speed: float
    spell: Spell

    @property
    def step_s(self) -> float:
        """How long a step takes then."""
        return FRAME_MS / 1000 / self.speed


@dataclass(frozen=True, slots=True)
class Jitter:
    """Each message is late by `least_ms` to `most_ms`, uniformly; in a spell only, if there is one.

    With `one_in`, only one message in so many, at random, is late: a network with hiccups.
    """

    most_ms: float
    spell: Spell | None = None
    seed: int = 0
    one_in: int = 1
    least_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelFaults:
    """Of the model stand-in. Zero is the handshake of each session."""

    pause: tuple[Spell, ...] = ()
    """No step begins. Input is taken in, and caught up with afterwards."""
    block: tuple[Spell, ...] = ()
    """The socket is neither read nor written."""
    slow: tuple[Slow, ...] = ()
    jitter: Jitter | None = None
    drift_ppm: float | None = None
    """If set, a step is due every 80 ms by the model's own clock, which is slower than ours by so
    many millionths (negative: faster), and none comes before it is due. If None, the input is the
    only clock."""
    lose: int = 0
    """Every n-th audio page is not sent; its page number is used up. 0: none."""
    corrupt: int = 0
    """Every n-th audio page carries a packet that no decoder takes; its CRC is right."""


@dataclass(frozen=True, slots=True)
class CallFaults:
    """Of Twilio's stand-in. Zero is the start of the stream."""

    block: tuple[Spell, ...] = ()
    """The media socket is neither read nor written; what is in the playout buffer is played."""
    lose_frames: tuple[Spell, ...] = ()
    """The caller's frames of these times are lost before Twilio makes messages of them."""
    lose: int = 0
    """Every n-th of the caller's frames is lost. 0: none."""
    double: int = 0
    """Every n-th of the caller's frames comes twice. 0: none."""
    jitter: Jitter | None = None
    drift_ppm: float = 0.0
    """The phone's clock is faster by so many millionths (negative: slower)."""
    answer_after_s: float = 0.0
    """From the webhook's answer to the media socket. Twilio: a few hundred ms."""
    never_connects: bool = False
    """The webhook is all that ever comes."""
    hang_up_holding_s: float | None = None
    """The caller has enough after so long in a queue."""
    dial_status: str = "completed"
    """What comes of a call that is forwarded."""
    dialled_s: float = 10.0
    """How long a forwarded call is talked."""


NO_MODEL_FAULTS = ModelFaults()
NO_CALL_FAULTS = CallFaults()


def after(spells: Iterable[Spell], moment_s: float) -> float:
    """The moment itself or, if it lies in a spell, the first one outside."""
    for spell in sorted(spells, key=lambda spell: spell.at_s):
        if spell.covers(moment_s):
            moment_s = spell.end_s
    return moment_s


def is_nth(number: int, every: int) -> bool:
    """Whether `number`, from 1, is the n-th of its kind again; never if `every` is 0."""
    return every > 0 and number % every == 0


def parse_spell(text: str) -> Spell:
    """`10+2` is the spell from 10 s on, for 2 s.

    Raises:
        ValueError: with what is wrong and what is right, as all of these do.
    """
    at, plus, length = text.partition("+")
    at_s, for_s = _number(at), _number(length)
    if not plus or at_s is None or for_s is None:
        raise ValueError(f"{text!r} is not of the form AT+FOR in seconds, such as 10+2")
    if not (0 <= at_s <= MAX_S and 0 < for_s <= MAX_S):
        raise ValueError(f"{text!r}: AT is 0 to {MAX_S} s, and FOR above 0 and up to {MAX_S} s")
    return Spell(at_s, for_s)


def parse_slow(text: str) -> Slow:
    """`0.8@10+2` is eight tenths of real time, from 10 s on, for 2 s."""
    speed, at, spell = text.partition("@")
    factor = _number(speed)
    if not at or factor is None:
        raise ValueError(f"{text!r} is not of the form SPEED@AT+FOR, such as 0.8@10+2")
    if not 0.01 <= factor <= 100:
        raise ValueError(f"{text!r}: SPEED is 0.01 to 100 (1 is real time)")
    return Slow(factor, parse_spell(spell))


def parse_jitter(text: str) -> Jitter:
    """`120` is 0 to 120 ms for the whole call, `120@10+2` from 10 s on for 2 s."""
    most, at, spell = text.partition("@")
    most_ms = _number(most)
    if most_ms is None:
        raise ValueError(f"{text!r} is not of the form MS or MS@AT+FOR, such as 120 or 120@10+2")
    if not 0 < most_ms <= MAX_JITTER_MS:
        raise ValueError(f"{text!r}: MS is above 0 and up to {MAX_JITTER_MS}")
    return Jitter(most_ms, parse_spell(spell) if at else None)


def parse_drift_ppm(text: str) -> float:
    """`50` or `-50`, in millionths."""
    ppm = _number(text)
    if ppm is None or abs(ppm) > MAX_DRIFT_PPM:
        raise ValueError(f"{text!r} is no number of ppm from -{MAX_DRIFT_PPM} to {MAX_DRIFT_PPM}")
    return ppm


def parse_every(text: str) -> int:
    """`10` is every tenth."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_EVERY):
        raise ValueError(f"{text!r} is no whole number from 1 to {MAX_EVERY}: every n-th")
    return int(text)


def parse_wait_s(text: str) -> float:
    """Seconds to wait, 0 or more."""
    seconds = _number(text)
    if seconds is None or not 0 <= seconds <= MAX_S:
        raise ValueError(f"{text!r} is no number of seconds from 0 to {MAX_S}")
    return seconds


def _number(text: str) -> float | None:
    """A plain decimal number: neither `1e3` nor `nan`."""
    return float(text) if re.fullmatch(r"-?\d{1,9}(\.\d{0,9})?", text, re.ASCII) else None
