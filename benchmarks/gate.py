"""What the noise gate silences, what it loses and what it costs; and the same of the voice
detectors that it could have been built on.

For each noise and SNR, in percent:

- `speech_gated`: model frames labelled speech that were silenced;
- `free_silenced`: speech-free model frames that were;
- `onsets_kept`: utterances of whose first 80 ms no more than 20 ms were;
- `onsets_whole`: utterances of whose first 80 ms nothing was.

`scenes` explains the labels.
"""

from __future__ import annotations

import importlib.util
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detectors import CANDIDATES, Candidate, levelled
from benchmarks.scenes import FREE, NEITHER, PIECE, PIECES_PER_FRAME, SPEECH, Scene, scenes
from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.gate import NoiseGate
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.voice import Mode, VoiceDetector

SEEDS = 2
MODES: tuple[Mode, ...] = ("auto", "strict")
CALLS = 50
COST_CALL_SECONDS = 1000
REAL_TIME_S = 8.0
TURN_S = 0.08

Voiced = Sequence[bool]


def measure(sounds: list[Path]) -> dict[str, Any]:
    """The shipped gate with both modes of its detector, then the candidates behind it."""
    calls = list(scenes(sounds, SEEDS))
    result: dict[str, Any] = {"sounds": [sound.name for sound in sounds]} | _material(calls)
    for mode in MODES:
        print(f"gate, {mode} ...", flush=True)
        voiced = [_voiced(call.heard, mode) for call in calls]
        result[mode] = _scores(calls, voiced)
    result["core_share_per_call_percent"] = _costs(calls[0].heard)
    fewer = calls[: len(calls) // SEEDS]
    result["candidates"] = [_tried(candidate, fewer) for candidate in CANDIDATES]
    return result


def _voiced(heard: Pcm, mode: Mode) -> Voiced:
    detector = VoiceDetector(mode)
    return [detector.feed(piece) for piece in _pieces(heard)]


def _tried(candidate: Candidate, calls: Sequence[Scene]) -> dict[str, Any]:
    if candidate.package and importlib.util.find_spec(candidate.package) is None:
        return {"name": candidate.name, "skipped": f"{candidate.package} is not installed"}
    print(f"gate, {candidate.name} ...", flush=True)
    began = time.process_time()
    try:
        alone = [candidate.voiced(call.heard) for call in calls]
    except OSError as error:  # a C library of its own is missing
        return {"name": candidate.name, "skipped": f"{candidate.package}: {error}"}
    detected = time.process_time()
    both = [levelled(call.heard, told) for call, told in zip(calls, alone, strict=True)]
    percent = 100 * mulaw.SAMPLE_RATE_HZ / sum(len(call.heard) for call in calls)
    return {
        "name": candidate.name,
        "core_share_per_call_percent": {
            "alone": round(percent * (detected - began), 3),
            "with_level": round(percent * (time.process_time() - began), 3),
        },
        "alone": _scores(calls, alone),
        "with_level": _scores(calls, both),
    }


def _scores(calls: Iterable[Scene], voiced: Iterable[Voiced]) -> dict[str, Any]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for call, each in zip(calls, voiced, strict=True):
        tallies[f"{call.noise} {call.snr_db} dB"].add(call, _opened(each))
    return {name: tally.percent() for name, tally in tallies.items()}


def _opened(voiced: Voiced) -> list[bool]:
    gate = NoiseGate()
    return [
        gate.opens(voiced[begin : begin + PIECES_PER_FRAME])
        for begin in range(0, len(voiced) - PIECES_PER_FRAME + 1, PIECES_PER_FRAME)
    ]


class _Tally:
    """Counts over the calls of one noise and SNR."""

    def __init__(self) -> None:
        self.frames = {SPEECH: [0, 0], FREE: [0, 0], NEITHER: [0, 0]}
        self.onsets: list[int] = []

    def add(self, call: Scene, opened: Sequence[bool]) -> None:
        for label, opens in zip(call.frames.tolist(), opened, strict=True):
            self.frames[label][opens] += 1
        passed = np.repeat(opened, PIECES_PER_FRAME)
        firsts = [passed[onset : onset + PIECES_PER_FRAME] for onset in call.onsets]
        self.onsets += [int(first.sum()) for first in firsts if len(first) == PIECES_PER_FRAME]

    def percent(self) -> dict[str, float]:
        gated, kept = self.frames[SPEECH]
        silenced, through = self.frames[FREE]
        onsets = np.array(self.onsets)
        return {
            "speech_gated": round(100 * gated / (gated + kept), 2),
            "free_silenced": round(100 * silenced / (silenced + through), 1),
            "onsets_kept": round(100 * float(np.mean(onsets >= PIECES_PER_FRAME - 1)), 1),
            "onsets_whole": round(100 * float(np.mean(onsets == PIECES_PER_FRAME)), 1),
        }


def _material(calls: Sequence[Scene]) -> dict[str, Any]:
    """How much there is to judge by."""
    labels = np.concatenate([call.frames for call in calls])
    shares = {
        name: round(100 * float(np.mean(labels == label)), 1)
        for name, label in (("speech", SPEECH), ("free", FREE), ("neither", NEITHER))
    }
    return {
        "calls": len(calls),
        "minutes": round(sum(len(call.heard) for call in calls) / mulaw.SAMPLE_RATE_HZ / 60),
        "utterances": sum(len(call.onsets) for call in calls),
        "frames_percent": shares,
    }


def _costs(heard: Pcm) -> dict[str, float]:
    """Detector and gate, in percent of a core per call, without decoding mu-law: as fast as it
    goes for one call and for many that take turns, and for as many when each turn falls due, as
    in a bridge, when the processor has been idle or elsewhere in between.
    """
    frames = [list(frame) for frame in _frames(heard)]
    costs = {
        "1_call_in_a_loop": _cost(frames, 1, COST_CALL_SECONDS, paced=False),
        f"{CALLS}_calls_in_a_loop": _cost(frames, CALLS, COST_CALL_SECONDS, paced=False),
        f"{CALLS}_calls_in_real_time": _cost(frames, CALLS, CALLS * REAL_TIME_S, paced=True),
    }
    return {name: round(100 * share, 4) for name, share in costs.items()}


def _cost(
    frames: Sequence[Sequence[Pcm]], calls: int, call_seconds: float, *, paced: bool
) -> float:
    """Share of a core; each call is at another place of the sound."""
    lines = [(VoiceDetector("auto"), NoiseGate()) for _ in range(calls)]
    turns, spent_s = round(call_seconds / calls / TURN_S), 0.0
    began = time.monotonic()
    for turn in range(turns):
        for number, (detector, gate) in enumerate(lines):
            if paced:
                due = began + (turn + number / calls) * TURN_S
                # Pacing is what is measured: caches are cold between frames that are due.
                time.sleep(max(0.0, due - time.monotonic()))
            frame = frames[(turn + 7 * number) % len(frames)]
            before = time.thread_time()
            gate.opens([detector.feed(piece) for piece in frame])
            spent_s += time.thread_time() - before
    return spent_s / (turns * calls * TURN_S)


def _pieces(heard: Pcm) -> Pcm:
    pieces: Pcm = heard[: len(heard) // PIECE * PIECE].reshape(-1, PIECE)
    return pieces


def _frames(heard: Pcm) -> Pcm:
    size = PIECE * PIECES_PER_FRAME
    frames: Pcm = heard[: len(heard) // size * size].reshape(-1, PIECES_PER_FRAME, PIECE)
    return frames
