"""The bare codec: what a call costs if nothing but libopus is run on its audio."""

from __future__ import annotations

import time

from benchmarks.sounds import model_packets
from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.downlink import MODEL_RATE_HZ
from personaplex_bridge.audio.opus import OpusDecoder
from personaplex_bridge.audio.uplink import ENCODINGS

SECONDS = 60


def bare_codec_share(speech: bytes, transcoder: str) -> float:
    """Share of a core per call: encode the caller's audio and decode the model's, in a loop."""
    encoding = ENCODINGS[transcoder]
    encoder = encoding.encoder()
    decoder = OpusDecoder(mulaw.SAMPLE_RATE_HZ if transcoder == "native" else MODEL_RATE_HZ)
    pcm = mulaw.decode((speech * (1 + SECONDS * 8000 // len(speech)))[: SECONDS * 8000])
    pcm = pcm.repeat(encoding.rate_hz // mulaw.SAMPLE_RATE_HZ)
    frames = pcm.reshape(-1, encoder.samples_per_frame)
    packets = model_packets("tone", SECONDS)
    began = time.process_time()
    for frame in frames:
        encoder.encode(frame)
    for packet in packets:
        decoder.decode(packet)
    return (time.process_time() - began) / SECONDS
