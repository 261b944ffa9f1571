"""What a call's media are: the telephone's mu-law, or linear samples at the model's own rate.

A call's format is settled before its media come and never changes. Media time is the same in
both: frames of 20 ms. So what counts frames need not know which it is; what makes, reads or fills
them is given the format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from personaplex_bridge.audio import l16, mulaw
from personaplex_bridge.audio.mulaw import FRAME_MS, Pcm
from personaplex_bridge.audio.narrow import WIDE_RATE_HZ, NarrowView


@dataclass(frozen=True, slots=True, eq=False)
class AudioFormat:
    """How one channel of media is written. Compared by identity: there are two."""

    name: str
    """For people and settings."""
    encoding: str
    """Its media type: `mediaFormat.encoding` in a stream's `start`."""
    rate_hz: int
    sample_bytes: int
    silence: bytes
    """The byte that silence consists of."""
    decode: Callable[[bytes], Pcm]
    """Whole samples of media to numbers."""
    encode: Callable[[Pcm], bytes]
    loudness: Callable[[bytes], list[bool]]
    """For each whole frame, whether it has a sample beyond `mulaw.QUIET`."""
    narrow_view: Callable[[], Callable[[bytes], Pcm]]
    """Makes what gives one call's frames as samples at 8 kHz, for the voice detector. It has a
    state: feed it in order.
    """
    bytes_per_s: int = field(init=False)
    frame_bytes: int = field(init=False)
    """Of 20 ms."""
    silent_frame: bytes = field(init=False)

    def __post_init__(self) -> None:
        bytes_per_s = self.rate_hz * self.sample_bytes
        frame_bytes = bytes_per_s * FRAME_MS // 1000
        object.__setattr__(self, "bytes_per_s", bytes_per_s)
        object.__setattr__(self, "frame_bytes", frame_bytes)
        object.__setattr__(self, "silent_frame", self.silence * frame_bytes)

    def bytes_in(self, time_ms: float) -> int:
        """The bytes of the whole samples nearest to a time."""
        return round(time_ms * self.rate_hz / 1000) * self.sample_bytes

    def ms_of(self, size_bytes: int) -> float:
        """How long so many bytes sound."""
        return size_bytes * 1000 / self.bytes_per_s

    def whole_frames(self, sound: bytes) -> bytes:
        """The same, filled up with silence to a whole frame."""
        return sound + self.silence * (-len(sound) % self.frame_bytes)


TELEPHONE = AudioFormat(
    name="telephone",
    encoding="audio/x-mulaw",
    rate_hz=mulaw.SAMPLE_RATE_HZ,
    sample_bytes=1,
    silence=mulaw.SILENCE,
    decode=mulaw.decode,
    encode=mulaw.encode,
    loudness=mulaw.loudness,
    narrow_view=lambda: mulaw.decode,
)
"""The only one that Twilio knows."""

HD = AudioFormat(
    name="hd",
    encoding="audio/L16",
    rate_hz=WIDE_RATE_HZ,
    sample_bytes=l16.SAMPLE_BYTES,
    silence=l16.SILENCE,
    decode=l16.decode,
    encode=l16.encode,
    loudness=partial(l16.loudness, rate_hz=WIDE_RATE_HZ),
    narrow_view=lambda: NarrowView().feed,
)
"""The model's own rate: nothing is lost to the telephone's band. For pages of ours alone."""

FORMATS = {known.name: known for known in (TELEPHONE, HD)}
