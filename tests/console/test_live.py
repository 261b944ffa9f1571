"""What is shown of calls: masks, marks, words; and watchers who are slow."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.console.callers import MAX_CALLERS, MAX_ENDED, Callers, Parties, masked
from personaplex_bridge.console.live import words_after, words_until
from personaplex_bridge.console.watching import MAX_MISSED, MAX_WAITING, Event, Watcher
from personaplex_bridge.observing import Answer, Webhook
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Word


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+15550100123", "+155…0123"),
        ("+4930123456", "+493…3456"),
        ("12345", "…"),
        ("", ""),
        ("client:alice", "client:…"),
        ("sip:me@host.example", "sip:…"),
        ("anonymous", "anonymous"),
        ("+15550100", "+15…00"),
    ],
)
def test_numbers_are_masked(number: str, shown: str) -> None:
    assert masked(number) == shown


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_no_number_is_shown_whole(number: str) -> None:
    assert number not in masked(number)
    assert sum(char.isdigit() for char in masked(number)) <= len(number) - 4


@given(st.integers(0, 30), st.integers(0, 30))
def test_words_come_once_each(before: int, after: int) -> None:
    record = CallRecord()
    record.words.extend(Word(float(n), f"word{n}") for n in range(before))
    first = words_after(record, None)
    last = first[-1] if first else None
    record.words.extend(Word(float(n), f"word{n}") for n in range(before, before + after))
    assert first + words_after(record, last) == list(record.words)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40))
def test_the_latest_words_up_to_one(before: int, after: int, limit: int) -> None:
    record = CallRecord()
    known = [Word(float(n), "word") for n in range(before)]
    record.words.extend(known)
    last = known[-1] if known else None
    record.words.extend(Word(float(n), "word") for n in range(before, before + after))
    assert words_until(record, last, limit) == known[-limit:]


def test_the_same_word_twice_is_two_words() -> None:
    record = CallRecord()
    record.words.extend([Word(1.0, "no"), Word(1.0, "no")])
    assert len(words_after(record, record.words[0])) == 1


def webhook(number: int) -> Webhook:
    sid = f"CA{number}"
    return Webhook(sid, "/voice/inbound", Answer.CONNECTED, 0.0, None, "+15550100", "+15550111")


def test_callers_and_endings_are_bounded() -> None:
    callers = Callers(lambda: 0.0)
    for number in range(MAX_CALLERS + 5):
        callers.webhook_answered(webhook(number))
    assert callers.of("CA0") == Parties()
    assert callers.of("CA5") == Parties("+15…00", "+15…11")
    for number in range(MAX_ENDED + 5):
        record = CallRecord(f"CA{number + 5}", "MZ", "noir")
        record.ending = Ending(EndedBy.CALLER, "the caller hung up", 1000, "hung_up")
        callers.call_over(record)
    assert len(callers.ended) == MAX_ENDED
    assert callers.of("CA5") == Parties(), "over: nobody asks any more"


def test_who_was_not_let_in_is_not_shown() -> None:
    callers = Callers(lambda: 0.0)
    record = CallRecord("CA1", "MZ", "")
    record.ending = Ending(EndedBy.CALLER, "no start", 1002)
    callers.call_over(record)
    assert not callers.ended


async def test_a_slow_watcher_is_let_go() -> None:
    watcher = Watcher()
    for number in range(MAX_WAITING + MAX_MISSED + 1):
        watcher.tell(Event(f"a-{number}", "change", b"{}"))
    async with asyncio.timeout(5):
        assert [event async for event in watcher] == []


async def test_a_watcher_hears_everything_in_order() -> None:
    watcher, heard = Watcher(), []
    for number in range(10):
        watcher.tell(Event(f"a-{number}", "change", orjson.dumps({"number": number})))
    async with asyncio.timeout(5):
        async for event in watcher:
            assert event is not None
            heard.append(event.id)
            if len(heard) == 10:
                break
    assert heard == [f"a-{number}" for number in range(10)]


def test_an_event_on_the_wire() -> None:
    event = Event("a-1", "change", b'{"gone":[]}')
    assert event.serialize() == b'id: a-1\nevent: change\ndata: {"gone":[]}\n\n'
