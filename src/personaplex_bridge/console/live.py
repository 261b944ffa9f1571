"""A call in progress as somebody sees it who looks now.

Everything is read from the session at that moment. So a call costs nothing while nobody looks,
beside a reference to its latest media.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, dropwhile, islice, takewhile
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.record import CallRecord, Word
from personaplex_bridge.session import BridgeSession

SILENT_DB = -90.0
"""The level of digital silence, and of nothing at all."""

STALE_S = 0.3
"""Media older than this is no level of now."""

MAX_MARKS = 200
"""The latest events of a call that are shown."""

_FULL_SCALE = 32_768.0


@dataclass(frozen=True, slots=True)
class EventMark:
    """Something on the timeline, so many seconds after the stream's start."""

    at_s: float
    kind: str
    """`ready`, `first-audio`, `turn`, `barge-in`, `failure` or `recovered`."""
    detail: str = ""
    """For people: how soon the model answered, how much was cut off, the class of an error."""


@dataclass(frozen=True, slots=True)
class CallView:
    """A call now. Levels are dB of full scale (-90 to 0), of a quarter second; frames are 20 ms."""

    sid: str
    """The CallSid, or a stream's without one."""
    persona: str
    caller: str
    """Masked."""
    called: str
    server: int | None
    """The model server it has: its place in PERSONAPLEX_URL."""
    state: str
    """`waiting` for a model, `talking`, or `lost`: the model failed, and another is sought."""
    duration_s: float
    ready_s: float | None
    """When the model was ready."""
    caller_db: float
    model_db: float
    """What the caller hears: the model, or what they hear while there is none."""
    to_model_lag_ms: float
    """What the caller has said, and the model has not answered."""
    to_caller_lag_ms: float
    """What the model has said, and the caller has not heard."""
    turns: int
    turn_delay_s: float | None
    """The latest: from the caller's last word to the model's first."""
    sent_frames: int
    """Of the caller's, to the model."""
    gated_frames: int
    """Of those: as silence, because there was no voice in them."""
    barge_ins: int
    failures: int
    keys: int
    """How many were pressed. Not which: they may be a PIN."""
    gaps: int
    """Times the phone ran dry in the middle of sound."""
    marks: tuple[EventMark, ...]


def view(
    session: BridgeSession, server: int | None, marks: tuple[EventMark, ...], now_s: float
) -> CallView:
    """The call as it is at `now_s`, on the session's clock. `server` is known elsewhere."""
    record, hearing, speaking = session.record, session.hearing, session.speaking
    delays, decode = session.turn_delays_s, session.audio_format.decode
    return CallView(
        sid=sid_of(record),
        persona=record.persona,
        caller=record.caller,
        called=record.called,
        server=server,
        state=_state(record),
        duration_s=round(session.elapsed_s, 1),
        ready_s=_rounded(record.handshake_s),
        caller_db=_level_db(hearing.latest, decode, now_s - hearing.heard_s),
        model_db=_level_db(speaking.latest, decode, now_s - speaking.latest_s),
        to_model_lag_ms=round(hearing.lag_ms),
        to_caller_lag_ms=round(speaking.waiting_ms()),
        turns=len(delays),
        turn_delay_s=_rounded(delays[-1] if delays else None),
        sent_frames=sum(transcoder.packets for transcoder in hearing.transcoders),
        gated_frames=hearing.audio.gated,
        barge_ins=len(record.barge_ins),
        failures=len(record.failures),
        keys=len(record.keys),
        gaps=speaking.playout.counts.gaps,
        marks=marks,
    )


def sid_of(record: CallRecord) -> str:
    """What a call is asked for by."""
    return record.call_sid or record.stream_sid


def words_after(record: CallRecord, last: Word | None) -> list[Word]:
    """What the model has said after a word; all that is kept, if that is None or forgotten."""
    fresh = list(takewhile(lambda word: word is not last, reversed(record.words)))
    return fresh[::-1]


def words_until(record: CallRecord, last: Word | None, limit: int) -> list[Word]:
    """What the model has said up to a word, which is one of the latest; no more than so many words,
    and none if it is None.
    """
    known = dropwhile(lambda word: word is not last, reversed(record.words))
    return list(islice(known, limit))[::-1]


def _state(record: CallRecord) -> str:
    if record.handshake_s is None:
        return "waiting"
    is_lost = bool(record.failures) and record.failures[-1].gone_s is None
    return "lost" if is_lost else "talking"


def _level_db(media: Iterable[bytes], decode: Callable[[bytes], Pcm], age_s: float) -> float:
    """How loud media are: the mean power, in dB of full scale."""
    joined = b"".join(media)
    if not joined or age_s > STALE_S:
        return SILENT_DB
    samples = decode(joined).astype(np.float32)
    power = float(np.dot(samples, samples)) / len(samples) / _FULL_SCALE**2
    return SILENT_DB if power <= 0 else round(max(SILENT_DB, 10 * math.log10(power)), 1)


class Timelines:
    """The marks of calls, made anew only when something has happened in them."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[BridgeSession, _Known] = WeakKeyDictionary()

    def of(self, session: BridgeSession) -> tuple[EventMark, ...]:
        """A call's."""
        state = _marks_state(session)
        known = self._known.get(session)
        if known is None or known[0] != state:
            known = self._known[session] = state, _marks(session)
        return known[1]


_Known: TypeAlias = tuple[tuple[object, ...], tuple[EventMark, ...]]


def _marks_state(session: BridgeSession) -> tuple[object, ...]:
    """As long as this is the same, so are the marks."""
    record, delays = session.record, session.turn_delays_s
    kept: tuple[Sequence[object], ...] = (delays, record.barge_ins, record.failures)
    latest = [(len(some), some[-1] if some else None) for some in kept]
    return record.handshake_s, record.first_audio_s, *latest


def _marks(session: BridgeSession) -> tuple[EventMark, ...]:
    found = chain(_events(session.record), _turns(session))
    marks = sorted(found, key=lambda mark: mark.at_s)
    return tuple(marks[-MAX_MARKS:])


def _events(record: CallRecord) -> Iterator[EventMark]:
    if record.handshake_s is not None:
        yield EventMark(round(record.handshake_s, 2), "ready")
    if record.first_audio_s is not None:
        yield EventMark(round(record.first_audio_s, 2), "first-audio")
    for barge_in in islice(reversed(record.barge_ins), MAX_MARKS):
        cut = f"{barge_in.waiting_ms:.0f} ms cut off"
        yield EventMark(round(barge_in.at_s, 2), "barge-in", cut)
    for failure in record.failures:
        yield EventMark(round(failure.at_s, 2), "failure", failure.kind)
        if failure.gone_s is not None:
            yield EventMark(round(failure.at_s + failure.gone_s, 2), "recovered")


def _turns(session: BridgeSession) -> Iterator[EventMark]:
    """When the model began to answer, the latest first."""
    turns = zip(reversed(session.answered_s), reversed(session.turn_delays_s), strict=False)
    for at_s, delay_s in islice(turns, MAX_MARKS):
        yield EventMark(round(at_s, 2), "turn", f"answered after {delay_s:.2f} s")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
