"""What is shown of calls: masks, marks, words; and watchers who are slow."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.clock import SYSTEM_CLOCK, LoopClock
from personaplex_bridge.console.ended import MAX_ENDED, EndedCalls
from personaplex_bridge.console.live import words_after, words_until
from personaplex_bridge.console.picture import Extras, Look
from personaplex_bridge.console.watching import (
    MAX_MISSED,
    MAX_WAITING,
    Event,
    Watcher,
    Watching,
    pause_s,
)
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Failure, Word
from tests.console.site import OPEN, site
from tests.virtual import in_virtual_time


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


async def test_marks_are_what_has_happened() -> None:
    async with site() as at, at.call() as calling:

        async def marks() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await at.ask(f"/api/calls/{calling.sid}"))[1]["marks"]
            return found

        async with asyncio.timeout(30):
            while not any(mark["kind"] == "turn" for mark in await marks()):
                await asyncio.sleep(0.1)
        (session,) = at.bridge.sessions
        session.record.failures.append(Failure(1.0, "code 1011", None, "ModelClosed"))
        assert "recovered" not in [mark["kind"] for mark in await marks()]
        session.record.failures[-1] = Failure(1.0, "code 1011", 0.5, "ModelClosed")
        found = await marks()
    times = [mark["at_s"] for mark in found]
    assert times == sorted(times)
    by_kind = {mark["kind"]: mark for mark in found}
    assert {"ready", "first-audio", "turn", "failure", "recovered"} <= set(by_kind)
    assert by_kind["failure"]["detail"] == "ModelClosed"
    assert by_kind["turn"]["detail"].startswith("answered after ")
    assert 0 < by_kind["turn"]["at_s"] < 30


def test_endings_are_bounded() -> None:
    ended = EndedCalls(lambda: 0.0)
    for number in range(MAX_ENDED + 5):
        record = CallRecord(f"CA{number}", "MZ", "noir", "+155***11")
        record.ending = Ending(EndedBy.CALLER, "the caller hung up", 1000, "hung_up")
        ended.call_over(record)
    assert len(ended.latest) == MAX_ENDED
    assert (ended.latest[0].sid, ended.latest[0].caller) == ("CA5", "+155***11")


def test_deleted_calls_are_forgotten_also_those_in_progress() -> None:
    ended = EndedCalls(lambda: 0.0)
    records = [CallRecord(f"CA{number}", "MZ", "noir") for number in range(4)]
    for record in records:
        record.ending = Ending(EndedBy.CALLER, "the caller hung up", 1000, "hung_up")
        ended.call_begins(record)
    ended.call_over(records[0])
    ended.call_over(records[1])
    ended.forget({"CA1", "CA2", "CA9"})
    assert ([one.sid for one in ended.latest], ended.forgets) == (["CA0"], 1)
    ended.call_over(records[2])
    ended.call_over(records[3])
    assert [one.sid for one in ended.latest] == ["CA0", "CA3"]
    again = CallRecord("CA2", "MZ", "noir", ending=records[0].ending)
    ended.call_begins(again)
    ended.call_over(again)
    assert [one.sid for one in ended.latest] == ["CA0", "CA3", "CA2"]


def test_who_was_not_let_in_is_not_shown() -> None:
    ended = EndedCalls(lambda: 0.0)
    record = CallRecord("CA1", "MZ", "")
    record.ending = Ending(EndedBy.CALLER, "no start", 1002)
    ended.call_over(record)
    assert not ended.latest


async def test_a_list_of_calls_is_made_step_by_step() -> None:
    """Others come in between: with many long calls all of it takes milliseconds."""
    ended = EndedCalls(lambda: 0.0)
    for number in range(MAX_ENDED):
        record = CallRecord(f"CA{number}", "MZ", "noir", ending=Ending(EndedBy.CALLER, "", 1000))
        ended.call_over(record)
    async with site() as at, at.call():
        look = Look(at.bridge, OPEN, ended, Extras(0.0), SYSTEM_CLOCK)
        turns, is_made = 0, False

        async def count() -> None:
            nonlocal turns
            while not is_made:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        listed = await look.listed(await look.picture())
        is_made = True
        await counting
    found = orjson.loads(orjson.dumps(listed))
    assert (len(found["calls"]), len(found["ended"])) == (1, MAX_ENDED)
    assert turns > MAX_ENDED


@pytest.mark.parametrize(("calls", "pause"), [(0, 0.25), (25, 0.25), (50, 0.5), (200, 2.0)])
def test_many_calls_are_looked_at_less_often(calls: int, pause: float) -> None:
    assert pause_s(calls) == pause


@in_virtual_time
async def test_a_watcher_is_told_so_often() -> None:
    clock, looked_s = LoopClock(), list[float]()

    class Many(Look):
        """50 calls that go on."""

        def __init__(self) -> None:
            pass

        async def picture(self) -> Any:
            looked_s.append(clock.now())
            return SimpleNamespace(calls=range(50))

        async def whole(self, now: Any) -> Any:
            return {}

        def changes(self, before: Any, now: Any) -> Any:
            return {"looked": len(looked_s)}

    watching = Watching(Many(), "a", clock)
    async with watching.watcher() as watcher:
        async for event in watcher:
            if event is not None and len(looked_s) > 5:
                break
    pauses = np.diff(looked_s)
    assert pauses == pytest.approx(0.5)


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
