"""The bare codec: what calls cost if nothing but libopus is run on their audio.

Measured twice. `in_a_loop` runs as fast as it can: caches stay warm, and it is the least the
audio can cost. `in_real_time` does the same work when it falls due, a call every so often, as a
bridge must: the processor has been idle or busy with something else before each turn.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.sounds import model_packets, read_mono, resample
from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.downlink import MODEL_RATE_HZ
from personaplex_bridge.audio.opus import OpusDecoder
from personaplex_bridge.audio.uplink import ENCODINGS

TURN_S = 0.08
PACKETS_A_TURN = 4
"""20 ms packets to the model for each 80 ms packet from it."""
LOOP_CALL_SECONDS = 1000
REAL_TIME_S = 8.0


class BareCodec:
    """As many encoders and decoders as there are calls, taking turns of 80 ms."""

    def __init__(self, sound: Path, transcoder: str, calls: int) -> None:
        encoding = ENCODINGS[transcoder]
        decoder_hz = mulaw.SAMPLE_RATE_HZ if transcoder == "native" else MODEL_RATE_HZ
        self._codecs = [(encoding.encoder(), OpusDecoder(decoder_hz)) for _ in range(calls)]
        pcm = resample(*read_mono(sound), encoding.rate_hz)
        size = self._codecs[0][0].samples_per_frame
        turn = PACKETS_A_TURN * size
        self._turns = pcm[: len(pcm) // turn * turn].reshape(-1, PACKETS_A_TURN, size)
        self._packets = model_packets(sound)

    def in_a_loop(self) -> float:
        """Share of a core per call."""
        calls = len(self._codecs)
        turns = max(1, int(LOOP_CALL_SECONDS / calls / TURN_S))
        began = time.thread_time()
        for number in range(turns):
            for call in range(calls):
                self._take_turn(number, call)
        return (time.thread_time() - began) / (turns * calls * TURN_S)

    def in_real_time(self) -> float:
        """Share of a core per call; the waiting between turns is not counted."""
        calls, turns, spent = len(self._codecs), int(REAL_TIME_S / TURN_S), 0.0
        began = time.monotonic()
        for number in range(turns):
            for call in range(calls):
                due = began + (number + call / calls) * TURN_S
                time.sleep(max(0.0, due - time.monotonic()))
                before = time.thread_time()
                self._take_turn(number, call)
                spent += time.thread_time() - before
        return spent / (turns * calls * TURN_S)

    def _take_turn(self, number: int, call: int) -> None:
        encoder, decoder = self._codecs[call]
        # Each call is at another place of the recording.
        place = number + 7 * call
        for frame in self._turns[place % len(self._turns)]:
            encoder.encode(frame)
        decoder.decode(self._packets[place % len(self._packets)])
