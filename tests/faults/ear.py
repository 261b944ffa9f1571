"""What a caller heard, told from the sound itself: ringing, chimes, the model, or nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from personaplex_bridge.audio.mulaw import FRAME_BYTES, SILENT_FRAME, loudness
from personaplex_bridge.audio.ringback import ringback
from personaplex_bridge.audio.tones import recovery_chime

RING = ringback("us")
_SECONDS = re.compile(r"\d+(?:\.\d)? s\b")
LEAST_FRAMES = 15
"""Silence shorter than 0.3 s belongs to what is before it."""
CADENCES = {"ringing": 200, "chime": 80}
"""The longest pause of each, in frames."""


def _frames(sound: bytes) -> list[bytes]:
    return [sound[begin : begin + FRAME_BYTES] for begin in range(0, len(sound), FRAME_BYTES)]


_RINGING = frozenset(_frames(RING)) - {SILENT_FRAME}
_CHIME = frozenset(_frames(recovery_chime()[0]))


def tell(heard: bytes) -> str:
    """For example `ringing 1.2 s, model 3.0 s, chime, model 2.1 s`. Pauses within the ringing and
    the chimes belong to them.
    """
    kinds = _bridged([_kind(frame) for frame in _frames(heard)])
    parts = [(kind, len(list(run)) * 0.02) for kind, run in groupby(kinds)]
    return ", ".join(_named(kind, seconds) for kind, seconds in parts) or "nothing"


def without_seconds(told: str) -> str:
    """Without the numbers: a tenth of a second more or less makes no other."""
    return _SECONDS.sub("… s", told)


def seconds_in(told: str) -> list[float]:
    """The numbers that `without_seconds` leaves out."""
    return [float(found.removesuffix(" s")) for found in _SECONDS.findall(told)]


def gist(told: str) -> list[str]:
    """What was heard, without how long, and without silence: a busy machine has some of its own."""
    kinds = [part.rsplit(" … s")[0] for part in without_seconds(told).split(", ")]
    return [kind for kind, _ in groupby(kind for kind in kinds if kind != "silence")]


def _kind(frame: bytes) -> str:
    if frame in _RINGING:
        return "ringing"
    if frame in _CHIME:
        return "chime"
    return "model" if loudness(frame)[0] else "silence"


def _bridged(kinds: Sequence[str]) -> list[str]:
    """Silence belongs to what is before it if it is a cadence's, or short."""
    runs = [(kind, len(list(run))) for kind, run in groupby(kinds)]
    told: list[str] = []
    for place, (kind, frames) in enumerate(runs):
        before = told[-1] if told else ""
        after = runs[place + 1][0] if place + 1 < len(runs) else before
        is_pause = before in CADENCES and before == after and frames <= CADENCES[before]
        if kind == "silence" and before and (is_pause or frames < LEAST_FRAMES):
            kind = before
        told += [kind] * frames
    return told


def _named(kind: str, seconds: float) -> str:
    return f"{kind} {seconds:.1f} s"
