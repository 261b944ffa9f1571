"""What is known of a call when it is over; typed, for programs and for one log line."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

MAX_WORDS = 20_000
"""Words of a transcript kept: about two hours of speech."""

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
    close_code: int


@dataclass(frozen=True, slots=True)
class Word:
    """A word the model said, at so many seconds after the stream's start."""

    at_s: float
    text: str


@dataclass(slots=True)
class CallRecord:
    """One call. Times are seconds since the stream's start; frames are 20 ms."""

    call_sid: str = ""
    stream_sid: str = ""
    persona: str = ""
    ending: Ending | None = None
    duration_s: float = 0.0
    handshake_s: float | None = None
    first_audio_s: float | None = None
    caller_frames: int = 0
    """Received from Twilio."""
    dropped_frames: int = 0
    """Received, but forgotten because the model wasn't ready or was pushing back."""
    unsent_frames: int = 0
    """Received, but less than a page at the end of the call, and not sent."""
    uplink_packets: int = 0
    """Encoded for the model, 20 ms each."""
    model_packets: int = 0
    """Received from the model."""
    downlink_frames: int = 0
    """Sent to Twilio."""
    unplayed_frames: int = 0
    """Decoded, but dropped because too much was waiting at Twilio already."""
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
            f"caller frames {self.caller_frames}, dropped {self.dropped_frames}",
            f"model packets {self.model_packets}, frames to caller {self.downlink_frames}, "
            f"dropped {self.unplayed_frames}",
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
