"""Opus by libopus, through opuslib's ctypes declarations.

An Opus stream has no sample rate of its own: encoder and decoder each work at the rate they are
made for. opuslib's own wrapper classes allocate on every call; with buffers made once, the codec
costs half the overhead, which counts at 50 packets a second a call.
"""

from __future__ import annotations

import ctypes
import weakref
from enum import IntEnum
from typing import Any

import numpy as np

from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.native import missing
from personaplex_bridge.errors import OpusError

try:
    import opuslib.api.decoder
    import opuslib.api.encoder
    import opuslib.constants
except ImportError:
    raise
except Exception as error:  # what opuslib raises without libopus is a bare Exception
    raise missing("libopus", "libopus0", "opus") from error

MAX_PACKET_BYTES = 1275 * 6
"""Six frames of 20 ms at the longest RFC 6716 allows."""
MAX_PACKET_MS = 120
AUTO_BITRATE: int = opuslib.constants.AUTO
"""Let libopus choose by rate and frame length."""

_OK = opuslib.constants.OK
_library = opuslib.api.libopus
_c_int16_pointer = opuslib.api.c_int16_pointer

# Both `ctl` functions are variadic. ctypes passes what exceeds `argtypes` by the variadic calling
# convention, which differs from the plain one on Apple silicon; opuslib's own declaration lacks
# that, hence a declaration of ours (indexing gives a new one and leaves opuslib's alone).
_encoder_ctl = _library["opus_encoder_ctl"]
_encoder_ctl.argtypes = (opuslib.api.encoder.EncoderPointer, ctypes.c_int)
_encoder_ctl.restype = ctypes.c_int

_decoder_ctl = _library["opus_decoder_ctl"]
_decoder_ctl.argtypes = (opuslib.api.decoder.DecoderPointer, ctypes.c_int)
_decoder_ctl.restype = ctypes.c_int

_packet_samples = _library["opus_packet_get_nb_samples"]
_packet_samples.argtypes = (ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32)
_packet_samples.restype = ctypes.c_int


class Application(IntEnum):
    """What the encoder optimises for. `LOW_DELAY` looks 2.5 ms ahead, `VOIP` 6.5 ms."""

    VOIP = opuslib.constants.APPLICATION_VOIP
    LOW_DELAY = opuslib.constants.APPLICATION_RESTRICTED_LOWDELAY


class OpusEncoder:
    """Samples at `sample_rate_hz` to packets of `frame_ms` (20, 40, 60, 80, 100 or 120). Those of
    two channels alternate: left, right, left.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        application: Application,
        bitrate: int,
        complexity: int,
        frame_ms: int = 20,
        channels: int = 1,
    ) -> None:
        self.samples_per_frame = sample_rate_hz * frame_ms // 1000
        self._state = opuslib.api.encoder.libopus_create(
            sample_rate_hz, channels, int(application), ctypes.byref(ctypes.c_int())
        )
        if not self._state:
            raise OpusError(f"no encoder at {sample_rate_hz} Hz")
        weakref.finalize(self, opuslib.api.encoder.destroy, self._state)
        self._set(opuslib.constants.SET_BITRATE_REQUEST, bitrate)
        self._set(opuslib.constants.SET_COMPLEXITY_REQUEST, complexity)
        self._pcm = np.zeros(channels * self.samples_per_frame, np.int16)
        self._pcm_pointer = _first_of(self._pcm)
        self._packet = ctypes.create_string_buffer(MAX_PACKET_BYTES)
        self._packet_address = ctypes.addressof(self._packet)

    @property
    def lookahead(self) -> int:
        """Samples, at the encoder's rate, that a decoded stream lags behind its input."""
        samples = ctypes.c_int32()
        request = opuslib.constants.GET_LOOKAHEAD_REQUEST
        _check(_encoder_ctl(self._state, request, ctypes.byref(samples)), "lookahead")
        return samples.value

    def encode(self, pcm: Pcm) -> bytes:
        """One frame of exactly `samples_per_frame` samples (a channel) to one packet; silence too.

        Raises:
            OpusError: libopus refused.
        """
        self._pcm[:] = pcm
        size = opuslib.api.encoder.libopus_encode(
            self._state, self._pcm_pointer, self.samples_per_frame, self._packet, MAX_PACKET_BYTES
        )
        _check(size, "encode")
        return ctypes.string_at(self._packet_address, size)

    def _set(self, request: int, value: int) -> None:
        _check(_encoder_ctl(self._state, request, ctypes.c_int32(value)), f"setting {request}")


class OpusDecoder:
    """Packets of any stream, mono or stereo, to mono samples at `sample_rate_hz`."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._state = opuslib.api.decoder.libopus_create(
            sample_rate_hz, 1, ctypes.byref(ctypes.c_int())
        )
        if not self._state:
            raise OpusError(f"no decoder at {sample_rate_hz} Hz")
        weakref.finalize(self, opuslib.api.decoder.destroy, self._state)
        self._pcm = np.zeros(sample_rate_hz * MAX_PACKET_MS // 1000, np.int16)
        self._pcm_pointer = _first_of(self._pcm)
        self._last_samples = sample_rate_hz // 50

    def reset(self) -> None:
        """Forget the stream so far: what comes begins another. Far quicker than a new decoder."""
        _check(_decoder_ctl(self._state, opuslib.constants.RESET_STATE), "reset")
        self._last_samples = self.sample_rate_hz // 50

    def decode(self, packet: bytes) -> Pcm:
        """The samples of one packet: 2.5 to 120 ms of them.

        Raises:
            OpusError: the packet is corrupt, or empty (which libopus would take for a loss and
                conceal at full length).
        """
        if not packet:
            raise OpusError("an empty packet")
        self._last_samples = self._decode(packet, len(self._pcm))
        return self._pcm[: self._last_samples].copy()

    def conceal(self) -> Pcm:
        """Stand-in samples for a lost packet, as long as the last one was."""
        return self._pcm[: self._decode(None, self._last_samples)].copy()

    def _decode(self, packet: bytes | None, samples: int) -> int:
        decoded: int = opuslib.api.decoder.libopus_decode(
            self._state, packet, len(packet or b""), self._pcm_pointer, samples, 0
        )
        _check(decoded, "decode")
        return decoded


def packet_samples(packet: bytes, sample_rate_hz: int) -> int:
    """How many samples a packet holds at `sample_rate_hz`, from its header alone.

    Raises:
        OpusError: the header makes no sense.
    """
    samples: int = _packet_samples(packet, len(packet), sample_rate_hz)
    _check(samples, "packet length")
    if samples == 0:  # code 3 with no frames, which RFC 6716, section 3.2.5 forbids
        raise OpusError("a packet without frames")
    return samples


def library_version() -> str:
    """The version libopus gives itself."""
    version = _library["opus_get_version_string"]
    version.restype = ctypes.c_char_p
    return str(version().decode())


def _first_of(pcm: Pcm) -> Any:
    """A pointer to samples, which it keeps. numpy's own (`ctypes.data_as`) refers to itself, and so
    keeps them until the garbage collector comes by.
    """
    return _c_int16_pointer(ctypes.c_int16.from_buffer(pcm.data))


def _check(result: int, doing: str) -> None:
    if result < _OK:
        raise OpusError(f"libopus: {opuslib.exceptions.OpusError(result)} ({doing})")
