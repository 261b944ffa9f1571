"""Model to caller: Ogg Opus bytes in, whole 20 ms frames of a phone's media out.

Pages and packets are all that is read from the Ogg stream. The server's granule positions count
at the wrong rate, its pre-skip would throw 80 ms of speech away and its streams never end
(docs/protocol.md), so granule position, pre-skip and end-of-stream are ignored.

Two paths, as in the uplink: `native` lets libopus decode to 8 kHz, with no delay of its own;
`soxr` decodes at 24 kHz and resamples. HD media are what is decoded at 24 kHz.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.mulaw import FRAME_MS, Pcm
from personaplex_bridge.audio.ogg import OggReader, Packet
from personaplex_bridge.audio.oggopus import HEAD_MAGIC, is_header
from personaplex_bridge.audio.opus import OpusDecoder
from personaplex_bridge.audio.resample import Resampler
from personaplex_bridge.errors import OpusError

MODEL_RATE_HZ = 24_000

MAX_FEED_S = 10
"""Most sound taken from one message; the servers' own hold 80 ms."""

MAX_CONCEALED = 3
"""Missing packets that are made up in a row: beyond that libopus has faded out anyway."""


class DownlinkTranscoder:
    """One call's model audio on its way to the caller.

    Damaged input never raises: pages libogg can't use are skipped, packets that are corrupt or
    missing are concealed by libopus, and `damage` counts both.
    """

    def __init__(
        self,
        rate_hz: int,
        resampler: Resampler | None = None,
        audio_format: AudioFormat = TELEPHONE,
    ) -> None:
        self.packets = 0
        self.concealed = 0
        """Packets that were corrupt or missing, and that libopus made up."""
        self._samples = 0
        self._given_bytes = 0
        self._rate_hz = rate_hz
        self._resampler = resampler
        self._reader = OggReader()
        self._decoder = OpusDecoder(rate_hz)
        self._format = audio_format
        self._rest = b""

    @property
    def damage(self) -> Counter[str]:
        """What was wrong with the input so far, by kind."""
        return self._reader.damage

    @property
    def sound_packets(self) -> int:
        """Packets that could be decoded."""
        return self.packets - self.damage["corrupt-packet"]

    @property
    def decoded_ms(self) -> float:
        """How much sound there was in all."""
        return self._samples * 1000 / self._rate_hz

    @property
    def held_frames(self) -> int:
        """What was decoded and not given out yet, in the resampler or for want of a whole frame,
        in frames of 20 ms.
        """
        return int(self.decoded_ms) // FRAME_MS - self._given_bytes // self._format.frame_bytes

    def feed(self, ogg: bytes) -> bytes:
        """The media that are complete now that `ogg` has come: whole frames.

        Packets beyond `MAX_FEED_S` are dropped and counted as `flood`: while they are decoded
        every other call waits.
        """
        parts: list[Pcm] = []
        samples_left = MAX_FEED_S * self._rate_hz
        for packet in self._reader.feed(ogg):
            if samples_left <= 0:
                self.damage["flood"] += 1
                continue
            lost = min(packet.lost, MAX_CONCEALED) if self.packets else 0
            fresh = [self._conceal() for _ in range(lost)] + [self._decode(packet)]
            samples_left -= sum([len(part) for part in fresh])
            parts += fresh
        self._samples += sum([len(part) for part in parts])
        pcm = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int16), *parts])
        return self._whole_frames(self._to_media(pcm, last=False))

    def flush(self) -> bytes:
        """What is left, filled up with silence to a whole frame."""
        tail = self._rest + self._to_media(np.empty(0, np.int16), last=True)
        self._rest = b""
        return self._format.whole_frames(tail)

    def _decode(self, packet: Packet) -> Pcm:
        if is_header(packet.data):
            if packet.data.startswith(HEAD_MAGIC):
                self._decoder.reset()
            return np.empty(0, np.int16)
        self.packets += 1
        try:
            return self._decoder.decode(packet.data)
        except OpusError:
            self.damage["corrupt-packet"] += 1
            return self._conceal()

    def _conceal(self) -> Pcm:
        self.concealed += 1
        return self._decoder.conceal()

    def _to_media(self, pcm: Pcm, *, last: bool) -> bytes:
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm, last=last)
        return self._format.encode(pcm)

    def _whole_frames(self, fresh: bytes) -> bytes:
        ready, size = self._rest + fresh if self._rest else fresh, self._format.frame_bytes
        end = len(ready) // size * size
        self._rest = ready[end:]
        self._given_bytes += end
        return ready[:end]


def make_downlink(transcoder: str, audio_format: AudioFormat = TELEPHONE) -> DownlinkTranscoder:
    """A new downlink: `native` decodes straight to the phone's rate, `soxr` decodes at 24 kHz and
    resamples with soxr HQ, if the phone's rate is another.
    """
    if transcoder == "native" or audio_format.rate_hz == MODEL_RATE_HZ:
        return DownlinkTranscoder(audio_format.rate_hz, audio_format=audio_format)
    resampler = Resampler(MODEL_RATE_HZ, audio_format.rate_hz)
    return DownlinkTranscoder(MODEL_RATE_HZ, resampler, audio_format)
