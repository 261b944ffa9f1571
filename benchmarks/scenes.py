"""Calls from noisy places: utterances with noise before, between and under them, and labels.

The labels come from the clean speech alone, after ITU-T P.56's method B, whose margin (15.9 dB)
and hangover (200 ms) are taken over: 20 ms of it are *speech* when their level is less than
15.9 dB below the active level (the mean power of all such), and so are the pauses of less than
200 ms between two of them. A model frame of 80 ms is

- `SPEECH` when at least 40 ms of it are speech;
- `FREE` when none of it is, and no 20 ms of it are louder than 30 dB below the active level;
- `NEITHER` otherwise: one 20 ms piece at an utterance's edge, or a tail dying away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from benchmarks.noises import NOISES, RATE_HZ, Sound
from benchmarks.sounds import read_mono
from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import Pcm

SNRS_DB = (20, 10, 5)
LEVELS_DBFS = (-15, -26, -35)
"""Active speech levels: callers differ, and so do their telephones."""
SPEEDS = (0.88, 1.0, 1.14)
"""Each recording is played at these too: other voices."""

PIECE = RATE_HZ // 50
PIECES_PER_FRAME = 4
MARGIN_DB = 15.9
QUIET_DB = 30.0
PAUSE_PIECES = 10
FREE, NEITHER, SPEECH = 0, 1, 2

Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Scene:
    """One caller: what is heard (after mu-law), in pieces of 20 ms, and what it is.

    `pieces` tells of each piece whether it is speech, `frames` labels each model frame, and
    `onsets` are the pieces with which utterances begin.
    """

    noise: str
    snr_db: int
    heard: Pcm
    pieces: npt.NDArray[np.bool_]
    frames: Labels
    onsets: list[int]


def scenes(sounds: Sequence[Path], seeds: int) -> Iterator[Scene]:
    """Every noise, SNR and level, `seeds` times."""
    speech = [utterance for sound in sounds for utterance in utterances(sound)]
    for seed in range(seeds):
        for level_dbfs in LEVELS_DBFS:
            for noise in NOISES:
                for snr_db in SNRS_DB:
                    yield make_scene(speech, noise, snr_db, level_dbfs, seed)


def make_scene(
    speech: Sequence[Sound], noise: str, snr_db: float, level_dbfs: float, seed: int
) -> Scene:
    """One of them. Odd seeds begin to talk at once, even ones after three seconds."""
    random = np.random.default_rng((seed, *noise.encode(), round(-level_dbfs)))
    clean = _placed(speech, random, lead_s=0.2 if seed % 2 else 3.0)
    loud = noise_of(noise, len(clean), random, speech) * 10 ** (-snr_db / 20)
    mixed = (clean + loud) * 10 ** (level_dbfs / 20) * 32768
    pcm = np.clip(np.round(mixed), -32768, 32767).astype(np.int16)
    active = speech_pieces(clean)
    return Scene(
        noise, round(snr_db), mulaw.decode(mulaw.encode(pcm)), active, _frame_labels(clean, active),
        [int(i) for i in np.flatnonzero(np.diff(active.astype(np.int8), prepend=0) == 1)],
    )  # fmt: skip


def noise_of(
    noise: str, samples: int, random: np.random.Generator, speech: Sequence[Sound]
) -> Sound:
    """So much noise of a kind; `none` is silence."""
    return NOISES[noise](samples, random, speech) if noise in NOISES else np.zeros(samples)


def utterances(sound: Path) -> list[Sound]:
    """What a recording says, cut in pauses of 200 ms or more, at 8 kHz and each speed of
    `SPEEDS`, scaled to an active level of 1.
    """
    mono, rate_hz = read_mono(sound)
    found = []
    for speed in SPEEDS:
        clean = soxr.resample(mono, rate_hz * speed, RATE_HZ, quality="VHQ")
        clean = clean[: len(clean) // PIECE * PIECE]
        clean = clean / np.sqrt(active_power(clean))
        edges = np.flatnonzero(np.diff(speech_pieces(clean).astype(np.int8), prepend=0, append=0))
        begins, ends = edges[::2], edges[1::2]
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            # A soft beginning and the dying away belong to it, but nothing of its neighbours.
            before = ends[number - 1] + 5 if number else 0
            after = begins[number + 1] - 5 if number + 1 < len(begins) else len(clean) // PIECE
            found.append(clean[max(begin - 5, before) * PIECE : min(end + 15, after) * PIECE])
    return found


def active_power(clean: Sound) -> float:
    """Mean power of the pieces less than 15.9 dB below just that."""
    power, threshold = _piece_powers(clean), 0.0
    for _ in range(50):
        level = float(power[power > threshold].mean())
        threshold = level * 10 ** (-MARGIN_DB / 10)
    return level


def speech_pieces(clean: Sound) -> npt.NDArray[np.bool_]:
    """Of each 20 ms whether it is speech."""
    active = _piece_powers(clean) > active_power(clean) * 10 ** (-MARGIN_DB / 10)
    loud = np.flatnonzero(active)
    for before, after in pairwise(loud):
        if after - before <= PAUSE_PIECES:
            active[before:after] = True
    return active


def _frame_labels(clean: Sound, active: npt.NDArray[np.bool_]) -> Labels:
    whole = len(active) // PIECES_PER_FRAME * PIECES_PER_FRAME
    spoken = active[:whole].reshape(-1, PIECES_PER_FRAME).sum(axis=1)
    loudest = _piece_powers(clean)[:whole].reshape(-1, PIECES_PER_FRAME).max(axis=1)
    quiet = loudest < active_power(clean) * 10 ** (-QUIET_DB / 10)
    labels: Labels = np.full(len(spoken), NEITHER, np.int8)
    labels[spoken >= PIECES_PER_FRAME // 2] = SPEECH
    labels[(spoken == 0) & quiet] = FREE
    return labels


def _piece_powers(clean: Sound) -> Sound:
    powers: Sound = (clean[: len(clean) // PIECE * PIECE].reshape(-1, PIECE) ** 2).mean(axis=1)
    return powers


def _placed(speech: Sequence[Sound], random: np.random.Generator, lead_s: float) -> Sound:
    """The utterances in any order, 1.5 to 3.5 s apart, at any place within a frame."""
    parts = [np.zeros(round(lead_s * RATE_HZ))]
    for number in random.permutation(len(speech)):
        parts += [speech[number], np.zeros(random.integers(12_000, 28_000))]
    return np.concatenate(parts)
