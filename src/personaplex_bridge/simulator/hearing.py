"""How the model stand-in reads what it is sent: as unforgiving as NVIDIA's server.

What makes the real server close (docs/protocol.md) raises `Unacceptable` here; what it tolerates
is tolerated.
"""

from __future__ import annotations

import numpy as np

from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.ogg import OggReader
from personaplex_bridge.audio.oggopus import HEAD_MAGIC, is_header
from personaplex_bridge.audio.opus import OpusDecoder
from personaplex_bridge.errors import OpusError
from personaplex_bridge.simulator.behaviours import FRAME_SAMPLES, RATE_HZ

CONCEALED_SAMPLES = 10 * RATE_HZ
"""What a zero-length packet injects into the real server's input."""

CAPTURE = b"OggS"
"""What every page begins with (RFC 3533, section 6)."""

_FATAL_DAMAGE = ("skipped-bytes", "foreign-page", "broken-packet")


class Unacceptable(Exception):
    """The real server would close the connection now."""


class StrictHearing:
    """Ogg Opus bytes in, frames of 1,920 samples at 24 kHz out."""

    def __init__(self) -> None:
        self.samples = 0
        self.froze = False
        self._reader = OggReader()
        self._decoder = OpusDecoder(RATE_HZ)
        self._begun = False
        self._captured = False
        self._lead = b""
        self._pcm: list[Pcm] = []
        self._buffered = 0

    def feed(self, ogg: bytes) -> list[Pcm]:
        """The frames that are complete now. `froze` is set if the real server would stall.

        Raises:
            Unacceptable: with the reason.
        """
        for packet in self._reader.feed(self._from_capture(ogg)):
            if packet.first and (self._begun or not packet.data.startswith(HEAD_MAGIC)):
                raise Unacceptable("a stream that begins again, or without OpusHead")
            if not packet.first and not self._begun:
                raise Unacceptable("the first page does not begin a stream")
            self._begun = True
            if not is_header(packet.data):
                self._add(self._decode(packet.data))
        for damage in _FATAL_DAMAGE:
            if self._reader.damage[damage]:
                raise Unacceptable(damage)
        return self._take_frames()

    def _from_capture(self, data: bytes) -> bytes:
        """The input from the first page on. Raw Opus without Ogg: nothing, and no word of why."""
        if self._captured:
            return data
        self._lead += data
        begin = self._lead.find(CAPTURE)
        if begin < 0:
            self._lead = self._lead[1 - len(CAPTURE) :]
            return b""
        self._captured = True
        return self._lead[begin:]

    def _decode(self, packet: bytes) -> Pcm:
        if not packet:
            self.froze = True
            return np.zeros(CONCEALED_SAMPLES, np.int16)
        try:
            return self._decoder.decode(packet)
        except OpusError as error:
            raise Unacceptable(str(error)) from error

    def _add(self, pcm: Pcm) -> None:
        self.samples += len(pcm)
        self._buffered += len(pcm)
        self._pcm.append(pcm)

    def _take_frames(self) -> list[Pcm]:
        if self._buffered < FRAME_SAMPLES:
            return []
        pcm = np.concatenate(self._pcm)
        whole = len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES
        self._pcm, self._buffered = [pcm[whole:]], len(pcm) - whole
        return list(pcm[:whole].reshape(-1, FRAME_SAMPLES))
