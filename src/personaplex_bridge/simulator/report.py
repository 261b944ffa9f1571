"""What the Twilio stand-in tells of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple


class Gap(NamedTuple):
    """Sound that stops for want of media: after how much of the phone's time, and for how long."""

    at_s: float
    ms: float


class Cleared(NamedTuple):
    """A `clear` command: when, and how much media nobody will hear for it."""

    at_s: float
    emptied_bytes: int


class Doing(StrEnum):
    """What Twilio does with a call."""

    SAYS = "says"
    PLAYS = "plays"
    PAUSES = "pauses"
    STREAMS = "streams"
    DIALS = "dials"
    RECORDS = "records"


class Moment(NamedTuple):
    """What Twilio did for a while: from so many seconds since the call's begin on.

    `what` is what was said, the URL that was played, or the number dialled.
    """

    at_s: float
    for_s: float
    doing: Doing
    what: str = ""

    @property
    def end_s(self) -> float:
        """When it was over."""
        return self.at_s + self.for_s


@dataclass(slots=True)
class PhoneReport:
    """What happened, as seen from the phone. Times are seconds since the stream's start."""

    call_sid: str
    moments: list[Moment] = field(default_factory=list)
    """What Twilio did, in order; times since the call's begin."""
    held_s: float | None = None
    """How long the caller was in a queue, in all."""
    queue_results: list[str] = field(default_factory=list)
    """Why the caller left a queue, in Twilio's words."""
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

    def tell(self, what: str) -> None:
        """Add to the outcome."""
        self.outcome = f"{self.outcome}, then {what}" if self.outcome else what

    def of(self, doing: Doing) -> list[str]:
        """What was said, played or dialled, in order."""
        return [moment.what for moment in self.moments if moment.doing is doing]

    @property
    def said_by_twilio(self) -> list[str]:
        """In order."""
        return self.of(Doing.SAYS)

    @property
    def dead_air_s(self) -> float:
        """The longest time in which the caller heard nothing of Twilio's, from the first sound on:
        between two things, or a pause.
        """
        sounds = [moment for moment in self.moments if moment.doing is not Doing.PAUSES]
        return max((after.at_s - before.end_s for before, after in pairwise(sounds)), default=0.0)

    @property
    def cleared_bytes(self) -> int:
        """Media emptied out of the playout buffer by all `clear` commands."""
        return sum(cleared.emptied_bytes for cleared in self.clears)
