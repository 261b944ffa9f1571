"""Two tracks of media to a stereo Ogg Opus file (RFC 7845)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import BinaryIO

import numpy as np

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.oggopus import GRANULE_RATE_HZ, OggOpusWriter
from personaplex_bridge.audio.opus import Application, OpusEncoder

BITS_PER_SAMPLE = 2
"""Far more than is needed: both tracks of a telephone call have 32 kbit/s, and 14 MB an hour; of
an HD call 96 kbit/s, and 43 MB.
"""
COMPLEXITY = 5
FRAME_MS = 20
FRAMES_PER_PAGE = 50


class OpusFile:
    """An open file. Every page is whole: what was written can be played whatever comes after.

    Raises:
        OSError: it can't be made or written.
    """

    def __init__(self, path: Path, audio_format: AudioFormat = TELEPHONE) -> None:
        rate_hz = audio_format.rate_hz
        self._format = audio_format
        self._scale = GRANULE_RATE_HZ // rate_hz
        self._encoder = OpusEncoder(
            rate_hz,
            application=Application.LOW_DELAY,
            bitrate=2 * rate_hz * BITS_PER_SAMPLE,
            complexity=COMPLEXITY,
            channels=2,
        )
        self._writer = OggOpusWriter(
            serial=secrets.randbits(31),
            pre_skip=self._encoder.lookahead * self._scale,
            input_rate_hz=rate_hz,
            frame_samples=self._encoder.samples_per_frame * self._scale,
            channels=2,
        )
        self._pcm = np.empty(0, np.int16)
        self._samples = 0
        self._packets: list[bytes] = []
        self._file: BinaryIO = path.open("xb", buffering=0)
        path.chmod(0o600)
        self._file.write(b"".join(self._writer.headers()))

    def write(self, left: bytes, right: bytes) -> None:
        """The next of both tracks, whole samples, of the same length."""
        tracks = [self._format.decode(left), self._format.decode(right)]
        self._samples += len(tracks[0])
        stereo = np.stack(tracks, axis=1).reshape(-1)
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
            self._file.write(self._writer.last_page(self._packets, self._samples * self._scale))
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
