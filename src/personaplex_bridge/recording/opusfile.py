"""Two mu-law tracks to a stereo Ogg Opus file (RFC 7845)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import BinaryIO

import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import SAMPLE_RATE_HZ, Pcm
from personaplex_bridge.audio.oggopus import GRANULE_RATE_HZ, OggOpusWriter
from personaplex_bridge.audio.opus import Application, OpusEncoder

BITRATE = 32_000
"""For both tracks: far more than a telephone's sound needs, and 14 MB an hour."""
COMPLEXITY = 5
FRAME_MS = 20
FRAMES_PER_PAGE = 50
_SCALE = GRANULE_RATE_HZ // SAMPLE_RATE_HZ


class OpusFile:
    """An open file. Every page is whole: what was written can be played whatever comes after.

    Raises:
        OSError: it can't be made or written.
    """

    def __init__(self, path: Path) -> None:
        self._encoder = OpusEncoder(
            SAMPLE_RATE_HZ,
            application=Application.LOW_DELAY,
            bitrate=BITRATE,
            complexity=COMPLEXITY,
            channels=2,
        )
        self._writer = OggOpusWriter(
            serial=secrets.randbits(31),
            pre_skip=self._encoder.lookahead * _SCALE,
            input_rate_hz=SAMPLE_RATE_HZ,
            frame_samples=self._encoder.samples_per_frame * _SCALE,
            channels=2,
        )
        self._pcm = np.empty(0, np.int16)
        self._samples = 0
        self._packets: list[bytes] = []
        self._file: BinaryIO = path.open("xb", buffering=0)
        path.chmod(0o600)
        self._file.write(b"".join(self._writer.headers()))

    def write(self, left: bytes, right: bytes) -> None:
        """The next of both tracks, mu-law, of the same length."""
        self._samples += len(left)
        stereo = np.stack([mulaw.decode(left), mulaw.decode(right)], axis=1).reshape(-1)
        self._pcm = np.concatenate([self._pcm, stereo])
        self._encode()
        while len(self._packets) > FRAMES_PER_PAGE:  # one stays, to end the stream with
            page, self._packets = (
                self._packets[:FRAMES_PER_PAGE],
                self._packets[FRAMES_PER_PAGE:],
            )
            self._file.write(self._writer.page(page))

    def close(self) -> None:
        """Encode what the encoder still holds back, end the stream to the sample, and close."""
        try:
            behind = self._encoder.lookahead + self._encoder.samples_per_frame
            self._pcm = np.concatenate([self._pcm, np.zeros(2 * behind, np.int16)])
            self._encode()
            self._file.write(self._writer.last_page(self._packets, self._samples * _SCALE))
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close as it is."""
        self._file.close()

    def _encode(self) -> None:
        size = 2 * self._encoder.samples_per_frame
        whole = len(self._pcm) // size * size
        frames: list[Pcm] = [self._pcm[begin : begin + size] for begin in range(0, whole, size)]
        self._packets += [self._encoder.encode(frame) for frame in frames]
        self._pcm = self._pcm[whole:]
