"""Audio for the measurements."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.simulator import behaviours


def shipped_speech() -> Path:
    """The speech file that comes with the package."""
    return Path(str(resources.files("personaplex_bridge").joinpath("data/caller.flac")))


def read_mono(path: Path) -> tuple[npt.NDArray[np.float64], int]:
    """A recording's samples (-1 to 1) and its rate in Hz."""
    samples, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
    return samples.mean(axis=1), rate_hz


def resample(samples: npt.NDArray[np.float64], from_hz: int, to_hz: int) -> Pcm:
    """Offline, at soxr's best quality."""
    changed = soxr.resample(samples, from_hz, to_hz, quality="VHQ")
    pcm: Pcm = np.clip(np.round(changed * 32768), -32768, 32767).astype(np.int16)
    return pcm


def model_packets(path: Path) -> list[bytes]:
    """The recording as the model server would send it: 80 ms packets at 24 kHz."""
    samples, rate_hz = read_mono(path)
    return behaviours.encode(resample(samples, rate_hz, behaviours.RATE_HZ))
