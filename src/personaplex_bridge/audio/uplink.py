"""Caller to model: a phone's media in, Ogg Opus pages out.

Two paths for a telephone's. `native` encodes at 8 kHz and leaves the change of rate to the model's
decoder: 2.5 ms of delay. `soxr` resamples to the model's 24 kHz first: the same sound, about 50 ms
later and for more CPU (benchmarks/). It is there for comparison. HD media are at 24 kHz already.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.oggopus import GRANULE_RATE_HZ, OggOpusWriter
from personaplex_bridge.audio.opus import Application, OpusEncoder
from personaplex_bridge.audio.resample import Resampler


class UplinkTranscoder:
    """One call's caller audio on its way to the model."""

    def __init__(
        self,
        encoder: OpusEncoder,
        rate_hz: int,
        packets_per_page: int,
        resampler: Resampler | None = None,
        audio_format: AudioFormat = TELEPHONE,
    ) -> None:
        self.packets = 0
        self.paged = 0
        """Packets in finished pages."""
        self._format = audio_format
        self._encoder = encoder
        self._resampler = resampler
        self._packets_per_page = packets_per_page
        self._granules_per_sample = GRANULE_RATE_HZ // rate_hz
        self._writer = OggOpusWriter(
            serial=secrets.randbits(31),
            pre_skip=encoder.lookahead * self._granules_per_sample,
            input_rate_hz=audio_format.rate_hz,
            frame_samples=encoder.samples_per_frame * self._granules_per_sample,
        )
        self._samples: Pcm = np.empty(0, np.int16)
        self._packets: list[bytes] = []
        self._silent_packet: bytes | None = None
        self._fed_bytes = 0

    @property
    def held_frames(self) -> int:
        """What was fed and is in no page yet, in the resampler or for want of a packet, in frames
        of 20 ms.
        """
        return self._fed_bytes // self._format.frame_bytes - self.paged

    def headers(self) -> bytes:
        """The stream's header pages. First, and once."""
        return b"".join(self._writer.headers())

    def feed(self, caller: bytes) -> list[bytes]:
        """The pages that are complete now that `caller` (whole samples) has come."""
        media, size = self._format, self._format.frame_bytes
        self._fed_bytes += len(caller)
        is_silent = caller.count(media.silence) == len(caller)
        if is_silent and self._silent_packet is not None and not len(caller) % size:
            frames = len(caller) // size
            self._packets += [self._silent_packet] * frames
            self.packets += frames
            return self._full_pages()
        pcm = media.decode(caller)
        if self._resampler is not None:
            pcm = self._resampler.feed(pcm)
        self._encode(pcm)
        self._silent_packet = self._settled_on() if is_silent else None
        return self._full_pages()

    def _settled_on(self) -> bytes | None:
        """The packet that the encoder has settled on in silence: all that would follow are the
        same, and need not be made. None while its packets differ, or samples wait.
        """
        last = self._packets[-2:]
        if self._resampler is not None or len(self._samples) or len(last) < 2:
            return None
        return last[1] if last[0] == last[1] else None

    def flush(self) -> bytes:
        """The last pages, which end the stream: it decodes to as many samples as were fed."""
        if self._resampler is not None:
            self._encode(self._resampler.feed(np.empty(0, np.int16), last=True))
        # The decoder lags by the lookahead: so much silence pushes the last sample out.
        size = self._encoder.samples_per_frame
        tail = len(self._samples) + self._encoder.lookahead
        self._encode(np.zeros(-(-tail // size) * size - len(self._samples), np.int16))
        total = self._fed_bytes * GRANULE_RATE_HZ // self._format.bytes_per_s
        return self._writer.last_page(self._packets, total)

    def _encode(self, pcm: Pcm) -> None:
        samples = np.concatenate((self._samples, pcm)) if len(self._samples) else pcm
        size = self._encoder.samples_per_frame
        whole = len(samples) // size * size
        for begin in range(0, whole, size):
            self._packets.append(self._encoder.encode(samples[begin : begin + size]))
        self._samples = samples[whole:]
        self.packets += whole // size

    def _full_pages(self) -> list[bytes]:
        pages = []
        while len(self._packets) >= self._packets_per_page:
            pages.append(self._writer.page(self._packets[: self._packets_per_page]))
            del self._packets[: self._packets_per_page]
            self.paged += self._packets_per_page
        return pages


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one path encodes. Complexity 5 is where PESQ stops rising (benchmarks/)."""

    rate_hz: int
    bitrate: int

    def encoder(self) -> OpusEncoder:
        """A new encoder of this path."""
        return OpusEncoder(
            self.rate_hz, application=Application.LOW_DELAY, bitrate=self.bitrate, complexity=5
        )


WIDEBAND = Encoding(24_000, 64_000)
"""At the model's own rate."""

ENCODINGS = {"native": Encoding(mulaw.SAMPLE_RATE_HZ, 48_000), "soxr": WIDEBAND}
"""Of a telephone, by the value of the TRANSCODER setting."""


def make_uplink(
    transcoder: str, packets_per_page: int = 4, audio_format: AudioFormat = TELEPHONE
) -> UplinkTranscoder:
    """A new uplink: `native` encodes at 8 kHz, `soxr` resamples to 24 kHz with soxr HQ first. What
    is at 24 kHz is encoded at 24 kHz.
    """
    encoding = WIDEBAND
    if audio_format.rate_hz < WIDEBAND.rate_hz:
        encoding = ENCODINGS[transcoder]
    resampler = None
    if encoding.rate_hz != audio_format.rate_hz:
        resampler = Resampler(audio_format.rate_hz, encoding.rate_hz)
    return UplinkTranscoder(
        encoding.encoder(), encoding.rate_hz, packets_per_page, resampler, audio_format
    )
