"""What a caller hears until the model is ready: a country's ringing tone, or an operator's file.

Frequencies and cadences are those of ITU-T E.180 Supplement 2 (Various tones used in national
networks, 2003). Where it names several tones, or a country's own rules are newer, a comment says
which one is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from personaplex_bridge.audio.format import FORMATS, TELEPHONE, AudioFormat
from personaplex_bridge.errors import AudioError

LEVEL_DBM0 = -19.0
"""Of the whole tone while it sounds, all its frequencies together. Networks ring at -10 (what E.180
recommends) and below; this is about as loud as speech at its nominal level, -26 dBov."""
RAMP_MS = 5
"""A tone that starts or stops at once clicks."""
MODULATION_DEPTH = 0.9
"""Of a tone that swells. Australia asks for 0.90 to 0.99, Japan for 0.70 to 1, Singapore for 1."""
MAX_FILE_SECONDS = 600.0

_SINE_0_DBM0_RMS = 32_636 / 2**0.5 / 10 ** (3.17 / 20)
"""Of 16-bit samples. The loudest sine that mu-law can carry has 3.17 dBm0 (ITU-T G.711)."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """One whole period of a ringing tone: it sounds and pauses, in turns, so many milliseconds.

    Several frequencies sound together, equally loud; `modulation_hz` is how often a second the
    tone swells, 0 for a steady one.
    """

    frequencies_hz: tuple[int, ...]
    on_off_ms: tuple[tuple[int, int], ...]
    modulation_hz: int = 0


_DOUBLE_RING = ((400, 200), (400, 2000))
_BRITISH = Cadence((400, 450), _DOUBLE_RING)
_NORTH_AMERICAN = Cadence((440, 480), ((2000, 4000),))
_EUROPEAN = Cadence((425,), ((1000, 4000),))

CADENCES: dict[str, Cadence] = {
    "at": Cadence((420,), ((1000, 5000),)),
    "au": _BRITISH,  # one of two in AS/CA S002:2010; the other is 425 Hz modulated at 25 Hz
    "be": Cadence((425,), ((1000, 3000),)),
    "bg": _EUROPEAN,
    "br": _EUROPEAN,
    "ca": _NORTH_AMERICAN,
    "ch": _EUROPEAN,
    "cn": Cadence((450,), ((1000, 4000),)),
    "cz": _EUROPEAN,
    "de": _EUROPEAN,
    "dk": _EUROPEAN,
    "ee": _EUROPEAN,
    "es": Cadence((425,), ((1500, 3000),)),
    "fi": _EUROPEAN,
    "fr": Cadence((440,), ((1500, 3500),)),
    "gb": _BRITISH,
    "gr": _EUROPEAN,
    "hk": Cadence((440, 480), ((400, 200), (400, 3000))),
    "hu": Cadence((425,), ((1250, 3750),)),
    "ie": _BRITISH,
    "il": Cadence((400,), ((1000, 3000),)),
    "in": Cadence((400,), _DOUBLE_RING, modulation_hz=25),
    "it": _EUROPEAN,
    "jp": Cadence((400,), ((1000, 2000),), modulation_hz=16),  # 15 to 20 Hz are allowed
    "kr": Cadence((440, 480), ((1000, 2000),)),
    "lt": _EUROPEAN,
    "mx": _EUROPEAN,
    "nl": _EUROPEAN,
    "no": _EUROPEAN,
    "nz": _BRITISH,
    "pl": _EUROPEAN,
    "pt": Cadence((425,), ((1000, 5000),)),
    "ru": _EUROPEAN,  # order 133 of the ministry, 2009; in the Supplement, 0.8 s and 3.2 s
    "se": Cadence((425,), ((1000, 5000),)),
    "sg": Cadence((425,), _DOUBLE_RING, modulation_hz=24),
    "tr": Cadence((450,), ((2000, 4000),)),
    "tw": Cadence((440, 480), ((1000, 2000),)),
    "uk": _BRITISH,  # not the country's code, but what people write
    "us": _NORTH_AMERICAN,
    "za": Cadence((400,), _DOUBLE_RING, modulation_hz=33),
}
"""By ISO 3166 country code, in lower case. `config` names the same countries."""


def ringback(country: str, audio_format: AudioFormat = TELEPHONE) -> bytes:
    """One whole period of a country's ringing tone, beginning with the tone.

    Media in whole frames; played over and over it goes on without a click.

    Raises:
        AudioError: a country that isn't in `CADENCES`.
    """
    cadence = CADENCES.get(country)
    if cadence is None:
        raise AudioError(f"no ringing tone of {country!r} is known, only {', '.join(CADENCES)}")
    parts = []
    for on_ms, off_ms in cadence.on_off_ms:
        pcm = np.rint(_tone(cadence, on_ms, audio_format.rate_hz)).astype(np.int16)
        pause = audio_format.silence * audio_format.bytes_in(off_ms)
        parts += [audio_format.encode(pcm), pause]
    return b"".join(parts)


def waiting_sound(
    setting: str | Path | None, audio_format: AudioFormat = TELEPHONE
) -> bytes | None:
    """What to play over and over until the model is ready: media in whole frames.

    `setting` is `Settings.ringback`: a country, a sound file, or None for silence. A file is
    filled up to a whole frame with silence.

    Raises:
        AudioError: the file can't be read, has no sound in it or is too long.
    """
    if setting is None:
        return None
    if isinstance(setting, str):
        return ringback(setting, audio_format)
    from personaplex_bridge.audio.files import read_media  # few bridges need soundfile

    media = read_media(setting, audio_format, max_seconds=MAX_FILE_SECONDS)
    return audio_format.whole_frames(media)


def waiting_sounds(setting: str | Path | None) -> dict[AudioFormat, bytes]:
    """`waiting_sound` in each format; empty for silence.

    Raises:
        AudioError: the file can't be read, has no sound in it or is too long.
    """
    sounds = {known: waiting_sound(setting, known) for known in FORMATS.values()}
    return {known: sound for known, sound in sounds.items() if sound is not None}


def _tone(cadence: Cadence, on_ms: int, rate_hz: int) -> npt.NDArray[np.float64]:
    """16-bit samples of `LEVEL_DBM0`, from silence to silence."""
    time_s = np.arange(on_ms * rate_hz // 1000) / rate_hz
    turns = np.outer(cadence.frequencies_hz, time_s)
    tone: npt.NDArray[np.float64] = np.sin(2 * np.pi * turns).sum(axis=0)
    power = len(cadence.frequencies_hz) / 2
    if cadence.modulation_hz:
        tone *= 1 - MODULATION_DEPTH * np.cos(2 * np.pi * cadence.modulation_hz * time_s)
        power *= 1 + MODULATION_DEPTH**2 / 2
    rms = _SINE_0_DBM0_RMS * 10 ** (LEVEL_DBM0 / 20)
    tone *= rms / power**0.5
    ramp = np.sin(np.linspace(0, np.pi / 2, RAMP_MS * rate_hz // 1000)) ** 2
    tone[: len(ramp)] *= ramp
    tone[-len(ramp) :] *= ramp[::-1]
    return tone
