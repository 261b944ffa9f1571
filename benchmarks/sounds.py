"""Audio for the measurements."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.behaviours import FRAME_MS, FRAME_SAMPLES


def shipped_speech() -> Path:
    """The speech file that comes with the package."""
    return Path(str(resources.files("personaplex_bridge").joinpath("data/caller.flac")))


def model_packets(behave: str, seconds: int) -> list[bytes]:
    """What the stand-in for the model would send in so many seconds."""
    behaviour = behaviours.make(behave)
    silence = np.zeros(FRAME_SAMPLES, np.int16)
    return [behaviour.step(silence).packet for _ in range(seconds * 1000 // FRAME_MS)]
