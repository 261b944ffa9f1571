"""What the model stand-in says: for each 80 ms frame it hears, a frame of sound and some text."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.opus import AUTO_BITRATE, Application, OpusEncoder

RATE_HZ = 24_000
FRAME_MS = 80
FRAME_SAMPLES = 1920

SPEECH_RMS = 200.0
"""A frame louder than this (of 32,768) is taken for speech."""
PAUSE_FRAMES = 8
"""So many quiet frames (640 ms) end an utterance."""
LEAD_FRAMES = 2
"""So many frames before the first loud one belong to the utterance: soft onsets."""
MAX_UTTERANCE_FRAMES = 750
"""An utterance is cut off at one minute."""

SETTLING_FRAMES = 10
"""So many frames until the encoder has settled on a steady sound."""

TONE_HZ = 437.5
"""35 whole periods in a frame, so that frames join without a click."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One frame of the model: an 80 ms Opus packet at 24 kHz, and the text pieces before it."""

    packet: bytes
    pieces: tuple[str, ...] = ()


class Behaviour(Protocol):
    """Takes one frame of 1,920 samples at 24 kHz, gives one reply."""

    def step(self, heard: Pcm) -> Reply:
        """The reply to one frame."""
        ...


class Echo:
    """Says at once what it hears."""

    def __init__(self) -> None:
        self._encoder = live_encoder()

    def step(self, heard: Pcm) -> Reply:
        """The same frame back."""
        return Reply(self._encoder.encode(heard))


class Loop:
    """Says the same packets for ever, encoded beforehand: no cost while it runs. `pieces` of text
    come with them, one every `EVERY` packets, for ever too.
    """

    EVERY = 4

    def __init__(self, packets: Sequence[bytes], pieces: Sequence[str] = ()) -> None:
        self._packets = itertools.cycle(packets)
        self._pieces = itertools.cycle(pieces)
        self._numbers = itertools.count()

    def step(self, heard: Pcm) -> Reply:
        """The next packet."""
        del heard
        said = next(self._numbers) % self.EVERY == 0
        return Reply(next(self._packets), tuple(itertools.islice(self._pieces, said)))


class Repeat:
    """Listens until the speaker pauses, then says it back, with a sentence of text."""

    def __init__(self) -> None:
        self._encoder = live_encoder()
        self._lead: deque[Pcm] = deque(maxlen=LEAD_FRAMES)
        self._utterance: list[Pcm] = []
        self._quiet_frames = 0
        self._to_say: deque[Pcm] = deque()
        self._pieces: deque[str] = deque()

    def step(self, heard: Pcm) -> Reply:
        """The next frame of what is to be repeated, or silence."""
        self._listen(heard)
        frame = self._to_say.popleft() if self._to_say else np.zeros(FRAME_SAMPLES, np.int16)
        pieces = (self._pieces.popleft(),) if self._pieces else ()
        return Reply(self._encoder.encode(frame), pieces)

    def _listen(self, heard: Pcm) -> None:
        loud = rms(heard) > SPEECH_RMS
        if not self._utterance:
            if loud:
                self._utterance = [*self._lead, heard]
                self._lead.clear()
            else:
                self._lead.append(heard)
            return
        self._utterance.append(heard)
        self._quiet_frames = 0 if loud else self._quiet_frames + 1
        full = len(self._utterance) >= MAX_UTTERANCE_FRAMES
        if self._quiet_frames >= PAUSE_FRAMES or full:
            self._answer()

    def _answer(self) -> None:
        spoken = len(self._utterance) - self._quiet_frames
        # What can't be said within a minute of now is forgotten: nothing grows without a bound.
        if len(self._to_say) < MAX_UTTERANCE_FRAMES:
            self._to_say.extend(self._utterance)
            seconds = spoken * FRAME_MS / 1000
            self._pieces.extend(
                pieces_of(f"You spoke for {seconds:.1f} seconds, and here it is again: déjà vu!")
            )
        self._utterance, self._quiet_frames = [], 0


def make(name: str) -> Behaviour:
    """The behaviour called `name`, new for each session."""
    return _MAKERS[name]()


def pieces_of(sentence: str) -> list[str]:
    """A sentence as the server's tokenizer sends it: word pieces with a leading space, long words
    in two, and bytes outside the vocabulary as `<0xC3>`.
    """
    pieces: list[str] = []
    for word in sentence.split():
        ascii_run = " "
        for char in word:
            if char.isascii():
                ascii_run += char
                if len(ascii_run) == 6:
                    pieces.append(ascii_run)
                    ascii_run = ""
                continue
            if ascii_run:
                pieces.append(ascii_run)
                ascii_run = ""
            pieces += [f"<0x{byte:02X}>" for byte in char.encode()]
        if ascii_run:
            pieces.append(ascii_run)
    return pieces


def rms(pcm: Pcm) -> float:
    """Root mean square, of 32,768."""
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))))


def live_encoder(complexity: int = 9) -> OpusEncoder:
    """As sphn 0.1.12 makes it for the real server: same mode, same bitrate."""
    return OpusEncoder(
        RATE_HZ,
        application=Application.VOIP,
        bitrate=AUTO_BITRATE,
        complexity=complexity,
        frame_ms=FRAME_MS,
    )


def encode(pcm: Pcm) -> list[bytes]:
    """The packets of a recording at 24 kHz, without its last part of a frame."""
    encoder = live_encoder()
    whole = pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return [encoder.encode(frame) for frame in whole]


def _tone() -> Loop:
    time_s = np.arange(FRAME_SAMPLES) / RATE_HZ
    frame = (8000 * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.int16)
    return Loop(encode(np.tile(frame, SETTLING_FRAMES))[-1:])


def _silence() -> Loop:
    return Loop(encode(np.zeros(SETTLING_FRAMES * FRAME_SAMPLES, np.int16))[-1:])


def _talk() -> Behaviour:
    from personaplex_bridge.simulator.talk import Talk  # reads a sound file, as nobody else here

    return Talk()


_MAKERS: dict[str, Callable[[], Behaviour]] = {
    "repeat": Repeat,
    "echo": Echo,
    "tone": _tone,
    "silence": _silence,
    "talk": _talk,
}
