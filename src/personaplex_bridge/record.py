"""What is known of a call when it is over; typed, for programs and for one log line."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median

MAX_WORDS = 20_000
"""Words of a transcript kept: about two hours of speech."""

MAX_BARGE_INS = 1_000
"""Interruptions of a call kept."""

PHRASE_GAP_S = 1.2
"""A pause so long between words begins a new phrase."""


class EndedBy(StrEnum):
    """Whose doing the end of a call was."""

    CALLER = "caller"
    MODEL = "model"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended, and the code the Twilio socket was closed with (RFC 6455)."""

    by: EndedBy
    reason: str
    """For people; it may quote what a peer has sent."""
    close_code: int
    kind: str = "other"
    """For a label: one of a few words, or the class of the error."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word the model said, at so many seconds after the stream's start."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Interruption:
    """The caller began to speak at so many seconds, while so much model audio was waiting to be
    played, and went on.
    """

    at_s: float
    waiting_ms: float


@dataclass(frozen=True, slots=True)
class Failure:
    """The model failed at so many seconds, and the call had one again so much later, or never."""

    at_s: float
    reason: str
    """For people; it may quote what the server has sent."""
    gone_s: float | None = None
    kind: str = "ModelError"
    """The class of the error."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind one direction was over a call: percentiles, in milliseconds."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    times: tuple[int, ...] = field(default=(), repr=False)
    """How often it was less than 20 ms, less than 40, and so on; the last of 250 has all the rest.
    """


@dataclass(slots=True)
class CallRecord:
    """One call. Times are seconds since the stream's start; frames are 20 ms."""

    call_sid: str = ""
    stream_sid: str = ""
    persona: str = ""
    ending: Ending | None = None
    duration_s: float = 0.0
    handshake_s: float | None = None
    """When the model was ready; about 0 with a warm line."""
    first_sent_s: float | None = None
    """When the model was sent the first of the caller's audio."""
    first_audio_s: float | None = None
    """When the model's first audio came."""
    turn_delays_s: list[float] = field(default_factory=list)
    """From the caller's last voice to the model's first sound at the phone, turn by turn."""
    barge_ins: deque[Interruption] = field(default_factory=lambda: deque(maxlen=MAX_BARGE_INS))
    """Times the caller interrupted, and what waited to be played was cleared."""

    failures: list[Failure] = field(default_factory=list)
    """Times the model failed in the conversation; a handful at most."""

    # Caller to model. Received + filled = doubled + shortened + dropped + unsent + sent.
    caller_frames: int = 0
    """Received from Twilio."""
    filled_frames: int = 0
    """Silence in the place of what was missing."""
    doubled_frames: int = 0
    """Left out because their time had been heard already."""
    shortened_frames: int = 0
    """Pauses left out to work off lag."""
    dropped_frames: int = 0
    """The oldest, forgotten because more than UPLINK_BACKLOG_MS waited."""
    unsent_frames: int = 0
    """Less than a model frame, or not taken by the model, at the end of the call; or still in the
    transcoder.
    """
    gated_frames: int = 0
    """Sent, but as silence: there was no voice in them."""
    uplink_packets: int = 0
    """Sent to the model, 20 ms each."""
    uplink_lag: Lag = field(default_factory=Lag)
    """Of what the caller says: waiting in the bridge, or sent to the model and not answered."""

    # Model to caller. Model + cushion = shortened + overdue + cleared here + unplayed + sent.
    model_packets: int = 0
    """Received from the model."""
    concealed_packets: int = 0
    """Corrupt or missing, and made up by libopus."""
    model_frames: int = 0
    """Decoded or made up."""
    cushion_frames: int = 0
    """Silence put in ahead of a jittering network."""
    pauses_shortened_frames: int = 0
    """Pauses left out to work off lag."""
    overdue_frames: int = 0
    """The oldest, dropped because more than DOWNLINK_BACKLOG_MS waited."""
    cleared_frames: int = 0
    """Dropped here because the caller interrupted, or the model failed."""
    tail_frames: int = 0
    """Sent as silence: what the model still said of what the caller had interrupted."""
    unplayed_frames: int = 0
    """Still waiting here, or in the transcoder, at the end of the call."""
    downlink_frames: int = 0
    """Sent to Twilio."""
    ringing_frames: int = 0
    """Of the sounds while there was no model, sent to Twilio."""
    downlink_lag: Lag = field(default_factory=Lag)
    """Of what the model says: waiting to be played, here and at Twilio."""
    gaps: int = 0
    """Times the phone ran dry in the middle of sound."""
    gap_ms: int = 0
    """How long that was in all."""

    recording: Path | None = None
    """Where it is, or will be in a moment; there is none if the disk was full."""
    keys: str = ""
    """DTMF digits, in order."""
    words: deque[Word] = field(default_factory=lambda: deque(maxlen=MAX_WORDS))
    bad_messages: Counter[str] = field(default_factory=Counter)
    """From Twilio, by reason."""
    ignored_messages: Counter[str] = field(default_factory=Counter)
    """From the model, by reason."""
    audio_damage: Counter[str] = field(default_factory=Counter)
    """In the model's Ogg Opus stream, by kind."""

    def summary(self) -> str:
        """The call in one line, without anything that was said."""
        ending = self.ending or Ending(EndedBy.BRIDGE, "unknown", 1006)
        faults = self.bad_messages + self.ignored_messages + self.audio_damage
        parts = [
            f"call over: {ending.reason} (ended by {ending.by}, code {ending.close_code})",
            f"{self.duration_s:.1f} s",
            f"persona {self.persona or '-'}",
            f"model ready {_seconds(self.handshake_s)}",
            f"first audio {_seconds(self.first_audio_s)}",
            f"turns {len(self.turn_delays_s)}, answered after {_middle(self.turn_delays_s)}",
            f"barge-ins {len(self.barge_ins)}",
            f"model failed {len(self.failures)} times",
            f"lag to model {_lag(self.uplink_lag)}, to caller {_lag(self.downlink_lag)}",
            f"gaps {self.gaps} ({self.gap_ms} ms)",
            f"caller frames {self.caller_frames}, filled {self.filled_frames}, "
            f"doubled {self.doubled_frames}, shortened {self.shortened_frames}, "
            f"dropped {self.dropped_frames}, gated {self.gated_frames}",
            f"model frames {self.model_frames}, made up {self.concealed_packets}, "
            f"cushion {self.cushion_frames}, shortened {self.pauses_shortened_frames}, "
            f"dropped {self.overdue_frames}, cleared {self.cleared_frames}",
            "faults " + (", ".join(f"{n}x {why}" for why, n in sorted(faults.items())) or "none"),
        ]
        return "; ".join(parts)


def phrases(words: Iterable[Word]) -> list[tuple[float, str]]:
    """Words joined into phrases at the pauses between them, each with the time of its first."""
    joined: list[tuple[float, str]] = []
    last_s = float("-inf")
    for word in words:
        if word.at_s - last_s >= PHRASE_GAP_S:
            joined.append((word.at_s, word.text))
        else:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]} {word.text}")
        last_s = word.at_s
    return joined


def _seconds(moment: float | None) -> str:
    return "never" if moment is None else f"{moment:.2f} s"


def _middle(delays_s: Sequence[float]) -> str:
    return _seconds(median(delays_s) if delays_s else None)


def _lag(lag: Lag) -> str:
    return f"{lag.p50_ms:.0f}/{lag.p99_ms:.0f}/{lag.max_ms:.0f} ms"
