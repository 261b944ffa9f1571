"""What callers hear while they hold: music that we make, or an operator's file, in short pieces.

Twilio plays one piece after the other and asks for each, so there is a pause of some tenths of a
second between them. Each piece therefore begins and ends softly; and a piece is no longer than a
freed model server should have to wait for its caller.
"""

from __future__ import annotations

import io
import wave
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import SAMPLE_RATE_HZ

PIECE_S = 5.0
"""About as long as a piece is."""
MAX_FILE_SECONDS = 600.0
LEVEL_DBFS = -20.0
"""Of the music, RMS: 0 dBFS is a square wave at full scale. Speech has about as much."""

_SEEK_S = 0.5
"""A file is cut at the quietest moment within so much of where a piece would end."""
_WINDOW_S = 0.02
_RAMP_S = 0.01
"""What is cut begins and ends with a ramp: no click."""

_NOTE_S = 0.3125
"""Sixteen notes a piece."""
_CHORDS = (
    (60, 64, 67, 72, 76),
    (57, 64, 69, 72, 76),
    (60, 65, 69, 72, 77),
    (59, 62, 67, 71, 74),
    (59, 64, 67, 71, 76),
    (57, 64, 69, 72, 76),
    (57, 62, 65, 69, 74),
    (59, 62, 67, 71, 79),
)
"""One for each piece, in MIDI notes: C, Am, F, G, Em, Am, Dm, G; all of it passes a telephone."""
_FIGURE = (0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 4, 3, 2)
"""Which notes of the chord, in turn. The last two of the sixteen are a rest: they ring out."""
_OVERTONES = (1.0, 0.35, 0.12)

_Samples = npt.NDArray[np.float64]


class HoldSound:
    """Pieces of mu-law at 8 kHz, to be played in turn and over and over."""

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self._pieces)

    def mulaw(self, number: int) -> bytes:
        """The piece with a number from 0 on."""
        return self._pieces[number]

    def wav(self, number: int) -> bytes:
        """The same as a WAV file, 16-bit PCM.

        Twilio's list of what `<Play>` takes says `audio/wav` and names no codec for it: linear
        samples are what every reader of WAV takes, and Twilio makes the same mu-law of them.
        """
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(SAMPLE_RATE_HZ)
            writer.writeframes(mulaw.decode(self._pieces[number]).astype("<i2").tobytes())
        return file.getvalue()


def hold_sound(file: Path | None) -> HoldSound:
    """The music, or a file cut into pieces.

    Raises:
        AudioError: the file can't be read, has no sound in it or is longer than ten minutes.
    """
    if file is None:
        return music()
    from personaplex_bridge.audio.files import read_as_mulaw  # few bridges need soundfile

    return HoldSound(cut(read_as_mulaw(file, max_seconds=MAX_FILE_SECONDS)))


@cache
def music() -> HoldSound:
    """A gentle arpeggio, one chord a piece; every piece ends with what rings out."""
    pieces = [_arpeggio(chord) for chord in _CHORDS]
    rms = np.sqrt(np.mean(np.square(pieces)))
    gain = 32768 * 10 ** (LEVEL_DBFS / 20) / rms
    return HoldSound(tuple(_encode(piece * gain) for piece in pieces))


def cut(sound: bytes) -> tuple[bytes, ...]:
    """Mu-law in pieces of about `PIECE_S`, none shorter than half of it, cut where it is quiet.

    Sound that is shorter is repeated, or Twilio would ask for it over and over.
    """
    sound *= -(-_samples(PIECE_S / 2) // len(sound))
    pcm = mulaw.decode(sound).astype(np.float64)
    count = max(1, round(len(pcm) / _samples(PIECE_S)))
    ends = [_quietest(pcm, len(pcm) * number // count) for number in range(1, count)]
    return tuple(_encode(_ramped(piece)) for piece in np.split(pcm, ends))


def _arpeggio(chord: tuple[int, ...]) -> _Samples:
    piece = np.zeros(_samples(PIECE_S))
    for place, which in enumerate(_FIGURE):
        begin = _samples(place * _NOTE_S)
        time_s = np.arange(len(piece) - begin) / SAMPLE_RATE_HZ
        hz = 440 * 2 ** ((chord[which] - 69) / 12)
        piece[begin:] += _note(hz, time_s) * (1.3 if which == 0 else 1.0)
    return _ramped(piece)


def _note(hz: float, time_s: _Samples) -> _Samples:
    """A soft attack, then it rings out; the overtones sooner."""
    tones = [
        loudness * np.sin(2 * np.pi * hz * number * time_s) * np.exp(-time_s * 2.2 * number)
        for number, loudness in enumerate(_OVERTONES, start=1)
    ]
    attack = np.minimum(time_s / 0.012, 1.0)
    note: _Samples = np.sum(tones, axis=0) * np.sin(attack * np.pi / 2) ** 2
    return note


def _quietest(pcm: _Samples, around: int) -> int:
    """The middle of the quietest window near a sample."""
    size, reach = _samples(_WINDOW_S), _samples(_SEEK_S)
    near = pcm[around - reach : around + reach].reshape(-1, size)
    return around - reach + int(np.square(near).sum(axis=1).argmin()) * size + size // 2


def _ramped(piece: _Samples) -> _Samples:
    ramp = np.sin(np.linspace(0, np.pi / 2, _samples(_RAMP_S))) ** 2
    piece = piece.copy()
    piece[: len(ramp)] *= ramp
    piece[-len(ramp) :] *= ramp[::-1]
    return piece


def _encode(pcm: _Samples) -> bytes:
    return mulaw.encode(np.rint(np.clip(pcm, -32768, 32767)).astype(np.int16))


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
