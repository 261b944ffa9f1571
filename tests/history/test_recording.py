"""What becomes of a record, a number, a transcript and a backlog; no database."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.callers import MAX_CALLS, REMEMBERED_S, Callers, Parties, masked, normal
from personaplex_bridge.history.backlog import Backlog, Entry
from personaplex_bridge.history.calls import (
    COLUMNS,
    EventKind,
    Outcome,
    Phrase,
    check_id,
    first_id,
    new_id,
    outcome_of,
)
from personaplex_bridge.history.recorder import _NO_FIGURES, Recorder
from personaplex_bridge.history.spool import Spool
from personaplex_bridge.history.transcript import (
    MAX_PHRASE_CHARS,
    MAX_PHRASES,
    MAX_SEARCH_CHARS,
    Transcript,
    clean,
    search_text,
)
from personaplex_bridge.record import (
    CallRecord,
    EndedBy,
    Ending,
    Failure,
    Interruption,
    Lag,
    Word,
    phrases,
)
from tests.history.makers import BEGAN, CALLER, entry

MASKS = [
    ("+15551230111", "+155***11"),
    ("+1 (555) 123-0111", "+155***11"),
    ("+442071838750", "+442***50"),
    ("+15550111", "+155***11"),
    ("+266696687", "+266***87"),
    ("+1234", "+1***"),
    ("+123", "+***"),
    ("911", "+***"),
    ("anonymous", "***"),
    ("sip:zoe@host.example", "sip:***"),
    ("client:zoe", "client:***"),
    ("zoe:+15551230111", "***"),
    ("browser", "browser"),
    ("", ""),
]


@pytest.mark.parametrize(("number", "mask"), MASKS)
def test_masks(number: str, mask: str) -> None:
    assert masked(number) == mask


@given(st.integers(100, 10**15 - 1))
def test_at_least_three_digits_are_hidden(number: int) -> None:
    shown = masked(f"+{number}")
    assert sum(char.isdigit() for char in shown) <= len(str(number)) - 3
    assert normal(str(number)) == f"+{number}"


class _Clock:
    def __init__(self) -> None:
        self.at_s = 1000.0

    def now(self) -> float:
        return self.at_s

    async def sleep_until(self, moment: float) -> None:
        raise NotImplementedError

    async def happens(self, event: object, moment: float) -> bool:
        raise NotImplementedError


def test_callers_are_remembered_for_a_while() -> None:
    clock = _Clock()
    callers = Callers(clock)
    callers.note({"CallSid": "CA1", "From": CALLER, "To": "+15550100"})
    callers.note({"CallSid": "CA2", "From": "+15550100", "To": CALLER, "Direction": "outbound-api"})
    callers.note({"From": CALLER})
    assert callers.of("CA1") == Parties(CALLER, "+15550100")
    assert callers.of("CA1").person == callers.of("CA2").person == CALLER
    assert callers.of("CA3") == Parties()
    assert CALLER not in repr(callers.of("CA1"))
    clock.at_s += REMEMBERED_S + 1
    callers.note({"CallSid": "CA4"})
    assert len(callers) == 1
    for number in range(MAX_CALLS + 5):
        callers.note({"CallSid": f"CA{number}"})
    assert len(callers) == MAX_CALLS


def recorder(
    backlog: Backlog, wall: Callable[[], float] = lambda: 1e9, *, transcripts: bool = True
) -> Recorder:
    callers = Callers()
    callers.note({"CallSid": "CA1", "From": CALLER, "To": "+15550100"})
    return Recorder(backlog, callers, "here:8080", transcripts=transcripts, wall=wall)


def whole_record() -> CallRecord:
    record = CallRecord(call_sid="CA1", stream_sid="MZ1", persona="noir", caller="+155***11")
    record.handshake_s, record.first_audio_s, record.model_server = 0.1, 0.2, 3
    record.turn_delays_s, record.turn_times_s = [0.4, 0.9, 0.5], [3.0, 6.0, 9.0]
    record.barge_ins.append(Interruption(7.0, 340.0))
    record.failures.append(Failure(8.0, "code 1011: '\0'", None))
    record.keys = "1234"
    record.words.extend([Word(0.3, "Hello"), Word(0.5, "there."), Word(4.0, "Yes?")])
    record.bad_messages["json"] = 2
    record.caller_frames = 500
    record.uplink_lag = Lag(20.0, 40.0, 60.0, times=(400, 90, 10))
    return record


def test_long_calls_are_noted_less_often() -> None:
    backlog, record, now_s = Backlog(), CallRecord(call_sid="CA1", persona="noir"), [0.0]
    recorded = Recorder(backlog, Callers(), "here:8080", monotonic=lambda: now_s[0])
    recorded.call_begins(record)
    noted_s = []
    for second in range(5, 3700, 5):  # each time there is a new word
        now_s[0] = float(second)
        record.words.append(Word(float(second), "on"))
        backlog.take(10)
        list(recorded.look())
        if len(backlog):
            noted_s.append(second)
    pauses_s = [later - sooner for sooner, later in itertools.pairwise(noted_s)]
    assert pauses_s[:50] == [5] * 50
    assert 55 <= pauses_s[-1] <= 65
    assert all(pause <= 5 + at_s / 60 for pause, at_s in zip(pauses_s, noted_s[1:], strict=True))


def test_a_call_from_begin_to_end() -> None:
    backlog, record, now_s = Backlog(), whole_record(), [1e9]
    words = list(record.words)
    record.words.clear()
    recorded = recorder(backlog, lambda: now_s[0])
    recorded.call_begins(record)
    (begun,) = backlog.take(10)
    assert not begun.is_over
    assert begun.whole.call.outcome is Outcome.IN_PROGRESS
    assert list(recorded.look()) == [begun.id]
    assert len(backlog) == 0, "nothing has changed"
    record.words.extend(words[:1])
    list(recorded.look())
    (going_on,) = backlog.take(10)
    assert going_on.whole.details.phrases == (Phrase(0.3, "Hello", (0.3,)),)
    record.words.extend(words[1:])
    now_s[0] += 10.0
    record.ending, record.duration_s = Ending(EndedBy.CALLER, "the caller hung up", 1000), 10.0
    recorded.call_over(record)
    recorded.call_over(record)
    (over,) = backlog.take(10)
    call, details = over.whole.call, over.whole.details
    assert (over.id, over.person) == (begun.id, CALLER)
    assert call.outcome is Outcome.HUNG_UP
    assert call.ended_at == datetime.fromtimestamp(1e9 + 10, UTC)
    assert (call.turns, call.turn_delay_s, call.barge_ins, call.keys) == (3, 0.5, 1, 4)
    assert (call.failures, call.model_failed, call.model_server) == (1, True, 3)
    assert details.phrases == (
        Phrase(0.3, "Hello there.", (0.3, 0.5)),
        Phrase(4.0, "Yes?", (4.0,)),
    )
    kinds = [(event.at_s, event.kind) for event in details.events]
    assert kinds == [
        (0.0, EventKind.START),
        (0.1, EventKind.MODEL_READY),
        (0.2, EventKind.FIRST_AUDIO),
        (3.0, EventKind.TURN),
        (6.0, EventKind.TURN),
        (7.0, EventKind.BARGE_IN),
        (8.0, EventKind.FAILURE),
        (9.0, EventKind.TURN),
        (10.0, EventKind.END),
    ]
    assert details.figures["caller_frames"] == 500
    assert details.figures["bad_messages"] == {"json": 2}
    assert details.figures["uplink_lag"] == {"p50_ms": 20.0, "p99_ms": 40.0, "max_ms": 60.0}
    assert "1234" not in repr(over.whole)
    assert CALLER not in repr(over)
    assert "\0" not in repr(over)


def test_every_field_of_a_record_is_kept() -> None:
    """A new one becomes a figure by itself; those that are none are kept in another way."""
    names = {field.name for field in fields(CallRecord)}
    assert names >= _NO_FIGURES
    elsewhere = {"ending", "keys", "words", "barge_ins", "failures", "turn_times_s"}
    assert set(COLUMNS) | elsewhere >= _NO_FIGURES


def test_who_was_not_let_in_is_no_call() -> None:
    backlog = Backlog()
    recorder(backlog).call_over(CallRecord())
    assert len(backlog) == 0


def test_without_transcripts() -> None:
    backlog, record = Backlog(), whole_record()
    recorder(backlog, transcripts=False).call_begins(record)
    assert backlog.take(1)[0].whole.details.phrases == ()


def test_a_call_that_is_forgotten_stays_so() -> None:
    backlog, record = Backlog(), whole_record()
    recorded = recorder(backlog)
    recorded.call_begins(record)
    assert recorded.find(lambda entry: entry.person == "+1") == []
    (gone,) = recorded.find(lambda entry: entry.person == CALLER)
    recorded.forget({gone.id})
    assert gone.whole.call.call_sid == record.call_sid
    record.ending = Ending(EndedBy.CALLER, "the caller hung up", 1000)
    recorded.call_over(record)
    assert len(backlog) == 0


OUTCOMES = [
    (None, Outcome.IN_PROGRESS),
    (Ending(EndedBy.CALLER, "", 1000), Outcome.HUNG_UP),
    (Ending(EndedBy.CALLER, "", 1002), Outcome.LINE_LOST),
    (Ending(EndedBy.MODEL, "", 1011), Outcome.MODEL_FAILED),
    (Ending(EndedBy.MODEL, "", 1013), Outcome.MODEL_FAILED),
    (Ending(EndedBy.BRIDGE, "", 1001), Outcome.BRIDGE_ENDED),
    (Ending(EndedBy.BRIDGE, "", 1011), Outcome.ERROR),
]


@pytest.mark.parametrize(("ending", "outcome"), OUTCOMES)
def test_outcomes(ending: Ending | None, outcome: Outcome) -> None:
    assert outcome_of(ending) is outcome


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_ids_are_in_the_order_of_time(moment: datetime) -> None:
    number = check_id(new_id(moment))
    assert first_id(moment) <= number < first_id(moment) + (1 << 21)


words = st.lists(st.tuples(st.floats(0, 3), st.text(min_size=1, max_size=9)), max_size=60)


@given(words, st.lists(st.integers(1, 20), max_size=20))
def test_a_transcript_grows_to_what_the_record_has(
    steps: list[tuple[float, str]], looks: list[int]
) -> None:
    at_s, said = 0.0, deque[Word]()
    for pause_s, text in steps:
        at_s += pause_s
        said.append(Word(at_s, text))
    grown, seen, rest = Transcript(), deque[Word](), deque(said)
    for count in [*looks, len(said)]:
        seen.extend(rest.popleft() for _ in range(min(count, len(rest))))
        grown.catch_up(seen)
    expected = [(at, clean(text)) for at, text in phrases(said)]
    assert [(phrase.at_s, phrase.text) for phrase in grown.phrases()] == expected
    times = [at_s for phrase in grown.phrases() for at_s in phrase.words_s]
    assert times == [round(word.at_s, 2) for word in said], "each word's own"


def test_a_transcript_is_bounded() -> None:
    grown = Transcript()
    grown.catch_up(deque(Word(0.1 * n, "word" * 10) for n in range(2_000)))
    assert max(len(phrase.text) for phrase in grown.phrases()) <= MAX_PHRASE_CHARS
    grown.catch_up(deque(Word(300 + 2.0 * n, "x") for n in range(MAX_PHRASES + 10)))
    assert len(grown.phrases()) == MAX_PHRASES
    assert len(search_text([Phrase(0.0, "word " * MAX_SEARCH_CHARS)])) == MAX_SEARCH_CHARS


def test_a_transcript_goes_on_when_the_record_forgets_its_oldest_words() -> None:
    grown, said = Transcript(), deque[Word](maxlen=5)
    for n in range(50):
        said.append(Word(2.0 * n, str(n)))
        if n % 3 == 0:
            grown.catch_up(said)
    grown.catch_up(said)
    assert [phrase.text for phrase in grown.phrases()] == [str(n) for n in range(50)]


def test_a_backlog_has_each_call_once() -> None:
    backlog, first = Backlog(), entry("a", over=False)
    last = Entry(entry("a", "b", id=first.id).whole)
    backlog.put(first)
    backlog.put(last)
    backlog.put(first)
    assert backlog.entries() == [last]
    taken = backlog.take(5)
    assert len(backlog) == 0
    backlog.put_back(taken)
    assert backlog.take(5) == [last]
    backlog.put(last)
    backlog.put_back([first])
    assert backlog.take(5) == [last], "what is newer stays"


def test_a_full_backlog_forgets_calls_in_progress_first() -> None:
    backlog = Backlog(limit=4)
    over = [entry("over", minute=n) for n in range(3)]
    going_on = [entry("on", minute=n, over=False) for n in range(3)]
    for one in (*going_on, *over):
        backlog.put(one)
    assert (backlog.skipped, backlog.dropped) == (2, 0)
    more = entry("more")
    backlog.put(more)
    backlog.put(entry("another"))
    assert (backlog.skipped, backlog.dropped) == (3, 1)
    assert over[0] not in backlog.entries()
    backlog.put_back([over[0]])
    assert over[0] not in backlog.entries(), "it is the oldest again"


def test_a_spool_gives_back_what_it_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "folder" / "spool.jsonl")
    assert list(spool.batches(10)) == []
    calls = [entry("hello", minute=n) for n in range(5)]
    spool.add(calls[:3], lambda number: f"hash of {number[-2:]}")
    with spool.path.open("ab") as file:
        file.write(b'{"version": 1, "call"\n\xff\n[]\n{"version": 2}\n')
    spool.add(calls[3:], None)
    batches = list(spool.batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    back = [one for batch in batches for one in batch]
    assert [one.whole for one in back[:3]] == [one.whole for one in calls[:3]]
    assert [one.caller_hash for one in back] == ["hash of 11"] * 3 + ["", ""]
    assert back[4].whole.call.caller == "", "who could never be found again is not kept"
    assert spool.broken == 4
    assert CALLER[1:] not in spool.path.read_text("utf-8", "replace")
    assert spool.path.stat().st_mode & 0o777 == 0o600
    spool.remove()
    assert list(spool.batches(2)) == []
    assert BEGAN.tzinfo is UTC
