"""What the Twilio stand-in tells of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Gap(NamedTuple):
    """Sound that stops for want of media: after how much of the phone's time, and for how long."""

    at_s: float
    ms: float


class Cleared(NamedTuple):
    """A `clear` command: when, and how much media nobody will hear for it."""

    at_s: float
    emptied_bytes: int


@dataclass(slots=True)
class PhoneReport:
    """What happened, as seen from the phone. Times are seconds since the stream's start."""

    call_sid: str
    webhook_s: float = 0.0
    frames_sent: int = 0
    media_messages: int = 0
    media_bytes: int = 0
    unheard_bytes: int = 0
    """Received, but still in the playout buffer at the end."""
    underruns: int = 0
    first_media_s: float | None = None
    first_sound_s: float | None = None
    close_code: int | None = None
    """The code our server closed the media socket with; None if the caller hung up first."""
    outcome: str = ""
    said_by_twilio: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What Twilio would have complained about."""
    heard: bytearray = field(default_factory=bytearray)
    """What the caller heard, frame by frame on the same clock as their own speech."""
    missing: bytearray = field(default_factory=bytearray)
    """For each frame heard, 1 if media was missing for it, in whole or in part."""
    gaps: list[Gap] = field(default_factory=list)
    """The audible ones: what was played last was no silence. Where our server cleared the sound
    there is no gap. One that the end of the call cuts off counts as far as it came.
    """
    clears: list[Cleared] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    """Clock reading when each frame was spoken; a fault may hold it back after that."""
    media_at: list[float] = field(default_factory=list)
    """Clock reading at each media message's arrival."""

    @property
    def cleared_bytes(self) -> int:
        """Media emptied out of the playout buffer by all `clear` commands."""
        return sum(cleared.emptied_bytes for cleared in self.clears)
