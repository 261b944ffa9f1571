"""What the codecs do to speech: PESQ narrowband and STOI of both directions and both paths.

The reference is the recording at 8 kHz before mu-law; `mu-law alone` is the best any telephone
bridge can do. The ideal downlink decodes the same packets at 24 kHz and resamples offline with
soxr VHQ before mu-law.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pesq import pesq
from pystoi import stoi

from benchmarks.sounds import read_mono, resample
from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.downlink import MODEL_RATE_HZ, make_downlink
from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS, SILENCE, Pcm
from personaplex_bridge.audio.ogg import OggReader, OggWriter
from personaplex_bridge.audio.oggopus import is_header, opus_head, opus_tags
from personaplex_bridge.audio.opus import OpusDecoder
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.config import TRANSCODERS
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.behaviours import FRAME_SAMPLES
from personaplex_bridge.simulator.conversation import PRE_SKIP, SERIAL

LOOKAHEAD_MS = 2.5
"""Of RESTRICTED_LOWDELAY; `delay_ms` of the uplink's score shows it."""
MAX_LAG = 4000
"""Samples at 8 kHz searched for the delay: half a second."""


def measure(path: Path) -> dict[str, Any]:
    """Scores of one recording."""
    mono, rate_hz = read_mono(path)
    reference = resample(mono, rate_hz, 8000)
    phone = mulaw.encode(reference)
    packets = behaviours.encode(resample(mono, rate_hz, MODEL_RATE_HZ))
    ideal = _concatenate(OpusDecoder(MODEL_RATE_HZ), packets)
    heard = {
        "mulaw_alone": mulaw.decode(phone),
        "uplink_native": _through_uplink(phone, "native"),
        "uplink_soxr": _through_uplink(phone, "soxr"),
        "downlink_ideal": _over_mulaw(resample(ideal / 32768, MODEL_RATE_HZ, 8000)),
        "downlink_native": _through_downlink(packets, "native"),
        "downlink_soxr": _through_downlink(packets, "soxr"),
    }
    return {"recording": path.name, "seconds": round(len(reference) / 8000, 1)} | {
        name: _score(reference, sound) for name, sound in heard.items()
    }


def delays() -> dict[str, float]:
    """Milliseconds of sound each path holds back by itself, on average: what has been fed in
    20 ms frames and has not come out, and the codec's look-ahead in the uplink.
    """
    held = {}
    for transcoder in TRANSCODERS:
        uplink = make_uplink(transcoder, packets_per_page=1)
        fed = [uplink.feed(SILENCE * FRAME_BYTES) for _ in range(500)]
        out_ms = np.cumsum([float(len(pages) * FRAME_MS) for pages in fed])
        held[f"uplink_{transcoder}"] = _mean_lag_ms(out_ms, FRAME_MS) + LOOKAHEAD_MS
        downlink, writer = make_downlink(transcoder), OggWriter(SERIAL)
        heard = [
            downlink.feed(writer.page([p], 0))
            for p in behaviours.encode(np.zeros(500 * FRAME_SAMPLES, np.int16))
        ]
        out_ms = np.cumsum([len(sound) / 8 for sound in heard])
        held[f"downlink_{transcoder}"] = _mean_lag_ms(out_ms, behaviours.FRAME_MS)
    return {name: round(delay_ms, 2) for name, delay_ms in held.items()}


def _mean_lag_ms(out_ms: npt.NDArray[np.float64], step_ms: int) -> float:
    in_ms = step_ms * np.arange(1, len(out_ms) + 1)
    return float(np.mean((in_ms - out_ms)[len(out_ms) // 10 :]))


def _through_uplink(phone: bytes, transcoder: str) -> Pcm:
    """As the model hears it: decoded at 24 kHz, brought to 8 kHz only to be scored."""
    uplink = make_uplink(transcoder)
    ogg = b"".join([uplink.headers(), *uplink.feed(phone), uplink.flush()])
    packets = [packet.data for packet in OggReader().feed(ogg) if not is_header(packet.data)]
    decoded = _concatenate(OpusDecoder(MODEL_RATE_HZ), packets)
    return resample(decoded / 32768, MODEL_RATE_HZ, 8000)


def _through_downlink(packets: list[bytes], transcoder: str) -> Pcm:
    downlink, writer = make_downlink(transcoder), OggWriter(SERIAL)
    downlink.feed(writer.page([opus_head(PRE_SKIP, MODEL_RATE_HZ)], 0))
    downlink.feed(writer.page([opus_tags("standin")], 0))
    heard = [
        downlink.feed(writer.page([packet], FRAME_SAMPLES * number))
        for number, packet in enumerate(packets, start=1)
    ]
    return mulaw.decode(b"".join([*heard, downlink.flush()]))


def _concatenate(decoder: OpusDecoder, packets: list[bytes]) -> Pcm:
    return np.concatenate([decoder.decode(packet) for packet in packets])


def _over_mulaw(pcm: Pcm) -> Pcm:
    return mulaw.decode(mulaw.encode(pcm))


def _score(reference: Pcm, heard: Pcm) -> dict[str, float]:
    delay = _delay(reference, heard)
    heard = heard[delay:]
    length = min(len(reference), len(heard))
    before = reference[:length].astype(np.float64) / 32768
    after = heard[:length].astype(np.float64) / 32768
    return {
        "pesq_nb": round(float(pesq(8000, before, after, "nb")), 3),
        "stoi": round(float(stoi(before, after, 8000)), 4),
        "delay_ms": round(delay / 8, 2),
    }


def _delay(reference: Pcm, heard: Pcm) -> int:
    """By how many samples `heard` lags, from the peak of the cross-correlation."""
    length = 1 << (len(reference) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard, length) * np.conj(np.fft.rfft(reference, length))
    return int(np.argmax(np.fft.irfft(spectrum, length)[:MAX_LAG]))
