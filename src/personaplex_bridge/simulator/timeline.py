"""The picture of a call: both voices over time, and what the model said in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from personaplex_bridge.audio import mulaw
from personaplex_bridge.record import Word, phrases

POINTS = 4000
CALLER_COLOUR, MODEL_COLOUR, TEXT_COLOUR = "#1f6feb", "#d9480f", "#333333"


def draw_timeline(
    path: Path, caller: bytes, heard: bytes, words: Sequence[Word], ready_s: float | None
) -> None:
    """Write a PNG: the caller above, what they heard below, the model's words under it.

    `caller` and `heard` are mu-law at 8 kHz on the same clock; `ready_s` is the handshake.
    """
    length_s = max(len(caller), len(heard)) / mulaw.SAMPLE_RATE_HZ
    figure = Figure(figsize=(14, 6), layout="constrained")  # no display, no global state
    top, bottom, text = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
    _draw_wave(top, caller, CALLER_COLOUR, "caller says")
    _draw_wave(bottom, heard, MODEL_COLOUR, "caller hears")
    if ready_s is not None:
        for axes in (top, bottom):
            axes.axvline(ready_s, color=TEXT_COLOUR, linestyle=":", linewidth=1)
        top.annotate(" model ready", (ready_s, 0.9), fontsize=8, color=TEXT_COLOUR, va="top")
    _draw_words(text, words, length_s)
    top.set_title(
        "A phone call through the bridge: both voices at the phone, and the words the model sent",
        loc="left",
        fontsize=11,
    )
    text.set_xlabel("seconds since the media stream started")
    top.set_xlim(0, length_s)
    figure.savefig(path, dpi=110)


def _draw_wave(axes: Axes, sound: bytes, colour: str, label: str) -> None:
    low, high, time_s = _envelope(sound)
    axes.fill_between(time_s, low, high, color=colour, linewidth=0)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.set_ylabel(label)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _envelope(
    sound: bytes,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Least and greatest sample of each stretch, scaled to the loudest, and its time."""
    pcm = mulaw.decode(sound).astype(np.float64)
    stretch = max(8, len(pcm) // POINTS)
    whole = pcm[: len(pcm) // stretch * stretch].reshape(-1, stretch)
    peak = max(1.0, float(np.abs(pcm).max(initial=0.0)))
    time_s = np.arange(len(whole)) * stretch / mulaw.SAMPLE_RATE_HZ
    return whole.min(axis=1) / peak, whole.max(axis=1) / peak, time_s


def _draw_words(axes: Axes, words: Sequence[Word], length_s: float) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("model's text")
    axes.spines[["top", "right", "left"]].set_visible(False)
    for number, (begin_s, line) in enumerate(phrases(words)):
        right = begin_s > length_s * 0.75
        axes.plot([begin_s, begin_s], [0.85, 1.0], color=MODEL_COLOUR, linewidth=1)
        axes.annotate(
            line,
            (begin_s, 0.72 - 0.28 * (number % 3)),
            ha="right" if right else "left",
            fontsize=8,
            color=TEXT_COLOUR,
        )
