"""Turns calls into entries of the history. It is told when they begin and end, and looks at those
in progress from time to time: the call itself does nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from personaplex_bridge.callers import Callers, Parties, normal
from personaplex_bridge.history.backlog import Backlog, Entry
from personaplex_bridge.history.calls import (
    Call,
    Details,
    Event,
    EventKind,
    WholeCall,
    new_id,
    outcome_of,
    utc,
)
from personaplex_bridge.history.transcript import Transcript, clean
from personaplex_bridge.observing import Observer
from personaplex_bridge.record import CallRecord

MAX_REASON_CHARS = 300

SHARE_OF_LENGTH = 1 / 60
"""How much of a call in progress may be missing from its entry; a call of an hour is noted once a
minute.
"""

_NO_FIGURES = frozenset(
    {"call_sid", "stream_sid", "persona", "caller", "called", "model_server", "ending", "keys"}
    | {"words", "barge_ins", "failures", "turn_times_s"}
)
"""Fields of a record that are columns, events or the transcript; or keys, of which no more than the
count is kept.
"""


@dataclass(slots=True)
class _InProgress:
    record: CallRecord
    id: str
    began: datetime
    began_s: float
    """By the monotonic clock."""
    parties: Parties = field(repr=False)
    transcript: Transcript
    seen: tuple[object, ...] = ()
    noted_s: float = 0.0
    """When it was noted last, by the monotonic clock."""


class Recorder(Observer):
    """Makes an entry when a call begins, when it is over, and as often as it is asked to `look`.

    `bridge` is this bridge's name, by which it will know its calls again after a crash. Wall and
    monotonic time are injected, in seconds.
    """

    def __init__(
        self,
        backlog: Backlog,
        callers: Callers,
        bridge: str,
        *,
        transcripts: bool = True,
        on_entry: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bridge = bridge
        self._backlog = backlog
        self._callers = callers
        self._transcripts = transcripts
        self._on_entry = on_entry
        self._wall = wall
        self._monotonic = monotonic
        self._calls: dict[int, _InProgress] = {}  # by the identity of their records

    def call_begins(self, record: CallRecord) -> None:
        """A call was let in: from now on there is a trace of it."""
        began = utc(self._wall())
        parties = self._callers.of(record.call_sid)
        call = _InProgress(record, new_id(began), began, self._monotonic(), parties, Transcript())
        self._calls[id(record)] = call
        self._note(call)

    def call_over(self, record: CallRecord) -> None:
        """A call is over; one that was not let in is none."""
        call = self._calls.pop(id(record), None)
        if call is not None:
            self._note(call)

    def look(self) -> Iterator[str]:
        """Note what has changed in the calls in progress, one call a step; gives their ids.

        An entry tells all of its call: the longer that is, the more it costs, and the less often it
        is made, which is every sixtieth of the call's length.
        """
        for call in list(self._calls.values()):
            now_s = self._monotonic()
            is_due = now_s - call.noted_s >= SHARE_OF_LENGTH * (now_s - call.began_s)
            if is_due and id(call.record) in self._calls and call.seen != _state(call.record):
                self._note(call)
            yield call.id

    def find(self, matches: Callable[[Entry], bool]) -> list[Entry]:
        """Calls in progress or waiting to be written. What `matches` sees of one in progress is
        without its details.
        """
        found = {entry.id: entry for entry in self._backlog.entries() if matches(entry)}
        for call in self._calls.values():
            # Not `_entry`: all of a long call takes milliseconds, and there may be many.
            if matches(Entry(WholeCall(self._call(call), Details()), normal(call.parties.person))):
                found[call.id] = self._entry(call)
        return list(found.values())

    def forget(self, call_ids: Container[str]) -> None:
        """Keep nothing of calls, in progress or waiting to be written."""
        for key, call in list(self._calls.items()):
            if call.id in call_ids:
                del self._calls[key]
        for entry in self._backlog.entries():
            if entry.id in call_ids:
                self._backlog.forget(entry.id)

    def _note(self, call: _InProgress) -> None:
        call.seen, call.noted_s = _state(call.record), self._monotonic()
        self._backlog.put(self._entry(call))
        self._on_entry()

    def _entry(self, call: _InProgress) -> Entry:
        if self._transcripts:
            call.transcript.catch_up(call.record.words)
        whole = WholeCall(self._call(call), _details(call.record, call.transcript))
        return Entry(whole, normal(call.parties.person))

    def _call(self, call: _InProgress) -> Call:
        record, ending = call.record, call.record.ending
        duration_s = self._monotonic() - call.began_s if ending is None else record.duration_s
        now = utc(self._wall())
        delays_s = record.turn_delays_s
        return Call(
            id=call.id,
            call_sid=clean(record.call_sid),
            stream_sid=clean(record.stream_sid),
            bridge=self.bridge,
            persona=clean(record.persona),
            model_server=record.model_server,
            caller=record.caller,
            called=record.called,
            started_at=call.began,
            updated_at=now,
            ended_at=None if ending is None else now,
            outcome=outcome_of(ending),
            ended_by="" if ending is None else str(ending.by),
            ended_reason="" if ending is None else clean(ending.reason)[:MAX_REASON_CHARS],
            close_code=None if ending is None else ending.close_code,
            duration_s=round(duration_s, 3),
            handshake_s=record.handshake_s,
            first_audio_s=record.first_audio_s,
            turns=len(delays_s),
            turn_delay_s=median(delays_s) if delays_s else None,
            barge_ins=len(record.barge_ins),
            failures=len(record.failures),
            model_failed=bool(record.failures) or outcome_of(ending) == "model-failed",
            keys=len(record.keys),
            gaps=record.gaps,
        )


def _state(record: CallRecord) -> tuple[object, ...]:
    """What tells whether there is something new."""
    last = record.words[-1] if record.words else None
    firsts = record.handshake_s, record.first_audio_s, record.model_server
    gone = [failure.gone_s for failure in record.failures]
    return *firsts, last, len(record.barge_ins), gone, record.ending


def _details(record: CallRecord, transcript: Transcript) -> Details:
    figures = {
        part.name: _plain(getattr(record, part.name))
        for part in fields(record)
        if part.name not in _NO_FIGURES
    }
    events = sorted(_events(record), key=lambda event: event.at_s)
    return Details(transcript.phrases(), tuple(events), figures)


def _events(record: CallRecord) -> Iterator[Event]:
    yield Event(0.0, EventKind.START)
    if record.handshake_s is not None:
        yield Event(record.handshake_s, EventKind.MODEL_READY)
    if record.first_audio_s is not None:
        yield Event(record.first_audio_s, EventKind.FIRST_AUDIO)
    for at_s, delay_s in zip(record.turn_times_s, record.turn_delays_s, strict=False):
        yield Event(at_s, EventKind.TURN, {"delay_s": delay_s})
    for barge_in in record.barge_ins:
        yield Event(barge_in.at_s, EventKind.BARGE_IN, {"waiting_ms": barge_in.waiting_ms})
    for failure in record.failures:
        reason = clean(failure.reason)[:MAX_REASON_CHARS]
        yield Event(failure.at_s, EventKind.FAILURE, {"reason": reason, "gone_s": failure.gone_s})
    if record.ending is not None:
        detail = {"by": str(record.ending.by), "reason": clean(record.ending.reason)}
        yield Event(record.duration_s, EventKind.END, detail)


def _plain(value: Any) -> Any:
    """What JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = [part.name for part in fields(value) if part.repr]  # a lag's `times` are metrics'
        return {name: _plain(getattr(value, name)) for name in shown}
    if isinstance(value, Mapping):
        return {clean(str(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, str | Path):
        return clean(str(value))
    if isinstance(value, Sequence):
        return [_plain(part) for part in value]
    return value
