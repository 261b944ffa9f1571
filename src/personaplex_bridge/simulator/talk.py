"""The model stand-in's talkative behaviour: it talks on and on, and stops when interrupted."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.files import read_as_mulaw
from personaplex_bridge.audio.mulaw import FRAME_BYTES, Pcm, loudness
from personaplex_bridge.audio.resample import Resampler
from personaplex_bridge.simulator.behaviours import (
    FRAME_SAMPLES,
    RATE_HZ,
    SPEECH_RMS,
    Reply,
    live_encoder,
    rms,
)

YIELD_FRAMES = 4
"""It stops when it has heard so many loud frames in a row (320 ms): an "uh-huh" is shorter."""
RESUME_FRAMES = 12
"""It talks on after so many quiet ones (960 ms)."""
KEPT_PAUSE_FRAMES = 3
"""Of 20 ms: pauses in what it says are cut to this."""
COMPLEXITY = 2
"""A frame takes 0.5 ms instead of 1.3 with the real server's (9), of a machine that has more to do.
What it says is of the telephone's band, which is as good with either.
"""


class Talk:
    """Talks without a pause, and yields to whoever talks into it."""

    def __init__(self) -> None:
        self._encoder = live_encoder(COMPLEXITY)
        self._speech = _shipped_speech()
        self._next = 0
        self._loud_frames = 0
        self._quiet_frames = RESUME_FRAMES
        self._yields = False

    def step(self, heard: Pcm) -> Reply:
        """The next frame of speech, or silence while somebody else talks."""
        loud = rms(heard) > SPEECH_RMS
        self._loud_frames = self._loud_frames + 1 if loud else 0
        self._quiet_frames = 0 if loud else self._quiet_frames + 1
        if self._loud_frames >= YIELD_FRAMES:
            self._yields = True
        elif self._quiet_frames >= RESUME_FRAMES:
            self._yields = False
        if self._yields:
            return Reply(self._encoder.encode(np.zeros(FRAME_SAMPLES, np.int16)))
        frame = self._speech[self._next]
        self._next = (self._next + 1) % len(self._speech)
        return Reply(self._encoder.encode(frame))


@cache
def _shipped_speech() -> tuple[Pcm, ...]:
    """The voice that ships, at 24 kHz, in model frames, without its pauses."""
    path = Path(str(resources.files("personaplex_bridge").joinpath("data/caller.flac")))
    dense = without_pauses(read_as_mulaw(path), KEPT_PAUSE_FRAMES)
    pcm = Resampler(mulaw.SAMPLE_RATE_HZ, RATE_HZ).feed(mulaw.decode(dense), last=True)
    whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
    return tuple(pcm[:whole].reshape(-1, FRAME_SAMPLES))


def without_pauses(speech: bytes, kept_frames: int) -> bytes:
    """Mu-law with its pauses cut to so many frames of 20 ms."""
    whole = speech[: len(speech) // FRAME_BYTES * FRAME_BYTES]
    kept, pause = bytearray(), 0
    for number, loud in enumerate(loudness(whole)):
        pause = 0 if loud else pause + 1
        if pause <= kept_frames:
            kept += whole[number * FRAME_BYTES : (number + 1) * FRAME_BYTES]
    return bytes(kept)
