"""What is kept of a call: the same for writing and for reading."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from personaplex_bridge.record import EndedBy, Ending

_RANDOM_BITS = 21
MAX_ID = (1 << 63) - 1


class Outcome(StrEnum):
    """How a call ended, in a word to search for."""

    IN_PROGRESS = "in-progress"
    HUNG_UP = "hung-up"
    """By the caller: the usual end."""
    BRIDGE_ENDED = "bridge-ended"
    """The longest call was over, or the bridge was stopped."""
    MODEL_FAILED = "model-failed"
    """No model could go on with it."""
    LINE_LOST = "line-lost"
    """Twilio's side ended without a word, or broke its protocol."""
    ERROR = "error"
    """A bug of the bridge's."""
    LOST = "lost"
    """The bridge died in the middle of it."""


class EventKind(StrEnum):
    """What a call's timeline is made of."""

    START = "start"
    MODEL_READY = "model-ready"
    FIRST_AUDIO = "first-audio"
    TURN = "turn"
    """The model answers: `delay_s` after the caller's last voice."""
    BARGE_IN = "barge-in"
    """The caller interrupts: `waiting_ms` of the model had not been heard."""
    FAILURE = "failure"
    """The model fails: `reason`, and `gone_s` until there was one again, or null."""
    END = "end"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, so many seconds after the stream's start."""

    at_s: float
    kind: EventKind
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phrase:
    """What the model said without a pause, and when it began to."""

    at_s: float
    text: str = field(repr=False)
    words_s: tuple[float, ...] = ()
    """When each of its words was said; empty if that was not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call in a list. Each field is a column, and may be searched or sorted by."""

    id: str
    """16 hexadecimal digits, which rise with the time the call began (`new_id`)."""
    call_sid: str
    stream_sid: str
    bridge: str
    """Which bridge had it."""
    persona: str
    model_server: int | None
    caller: str
    """Masked, as `called` is."""
    called: str
    started_at: datetime
    updated_at: datetime
    """When this was known."""
    ended_at: datetime | None
    outcome: Outcome
    ended_by: str
    ended_reason: str
    close_code: int | None
    duration_s: float
    handshake_s: float | None
    first_audio_s: float | None
    turns: int
    turn_delay_s: float | None
    """The median."""
    barge_ins: int
    failures: int
    """Times the model failed while the call had it."""
    model_failed: bool
    """Whether it failed at all, also before the call had it."""
    keys: int
    """How many were pressed; not which: they may be a PIN."""
    gaps: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON and CSV: times as ISO 8601 texts in UTC."""
        return {name: _plain(value) for name, value in asdict(self).items()}


COLUMNS = tuple(column.name for column in fields(Call))


@dataclass(frozen=True, slots=True)
class Details:
    """The rest of a call: what is only looked at when it is opened."""

    phrases: tuple[Phrase, ...] = ()
    events: tuple[Event, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Every figure of its `CallRecord`, by name."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "events": [
                {"at_s": event.at_s, "kind": str(event.kind), **event.detail}
                for event in self.events
            ],
            "transcript": [
                {"at_s": phrase.at_s, "text": phrase.text, "words_s": list(phrase.words_s)}
                for phrase in self.phrases
            ],
            "figures": dict(self.figures),
        }


@dataclass(frozen=True, slots=True)
class WholeCall:
    """A call with all that is kept of it."""

    call: Call
    details: Details

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` is its inverse."""
        return {**self.call.as_dict(), **self.details.as_dict()}


def from_dict(known: Mapping[str, Any]) -> WholeCall:
    """A call from its JSON.

    Raises:
        KeyError, TypeError, ValueError: it isn't one.
    """
    columns = {name: known[name] for name in COLUMNS}
    for name in ("started_at", "updated_at", "ended_at"):
        columns[name] = datetime.fromisoformat(columns[name]) if columns[name] else None
    columns["outcome"] = Outcome(columns["outcome"])
    check_id(columns["id"])
    return WholeCall(Call(**columns), read_details(known))


def read_details(known: Mapping[str, Any]) -> Details:
    """Their JSON, read."""
    events = []
    for event in known["events"]:
        detail = {name: value for name, value in event.items() if name not in ("at_s", "kind")}
        events.append(Event(event["at_s"], EventKind(event["kind"]), detail))
    phrases = [
        Phrase(phrase["at_s"], phrase["text"], tuple(phrase.get("words_s", ())))
        for phrase in known["transcript"]
    ]
    return Details(tuple(phrases), tuple(events), known["figures"])


def outcome_of(ending: Ending | None) -> Outcome:
    """The word for how a call ended."""
    if ending is None:
        return Outcome.IN_PROGRESS
    match ending.by:
        case EndedBy.MODEL:
            return Outcome.MODEL_FAILED
        case EndedBy.CALLER:
            return Outcome.HUNG_UP if ending.close_code == 1000 else Outcome.LINE_LOST
        case _:
            return Outcome.BRIDGE_ENDED if ending.close_code == 1001 else Outcome.ERROR


def new_id(began: datetime) -> str:
    """An id for a call that began then: milliseconds since 1970, then 21 random bits. So ids are
    in the order of time, in whatever database, and none is asked for one.
    """
    return id_text(first_id(began) | secrets.randbits(_RANDOM_BITS))


def first_id(moment: datetime) -> int:
    """The lowest id of calls that began at a moment, to the millisecond, or later."""
    milliseconds = int(moment.timestamp() * 1000)
    return min(max(milliseconds, 0) << _RANDOM_BITS, MAX_ID)


def id_text(number: int) -> str:
    """An id as the database has it, as users have it."""
    return f"{number:016x}"


def check_id(text: str) -> int:
    """An id as users have it, as the database has it.

    Raises:
        ValueError: it is none.
    """
    if len(text) != 16 or not set(text) <= set("0123456789abcdef") or int(text, 16) > MAX_ID:
        raise ValueError(f"{text[:24]!r} is no call's id: 16 hexadecimal digits")
    return int(text, 16)


def utc(epoch_s: float) -> datetime:
    """A moment, to the millisecond."""
    return datetime.fromtimestamp(round(epoch_s, 3), UTC)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, StrEnum) else value
