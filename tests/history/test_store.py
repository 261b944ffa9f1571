"""What is found, shown, exported and deleted; in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import random
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from personaplex_bridge.errors import ConfigError, HistoryError, HistoryUnavailable
from personaplex_bridge.history.backlog import Entry
from personaplex_bridge.history.calls import COLUMNS, Call, Outcome, from_dict
from personaplex_bridge.history.database import Database
from personaplex_bridge.history.exporting import CSV_COLUMNS, Format, export
from personaplex_bridge.history.keeping import sweep
from personaplex_bridge.history.queries import Page, Search, Sort
from personaplex_bridge.history.store import BATCH, PAGE, Deletion, History, RecordingsStay
from personaplex_bridge.values import database_url
from tests.history.makers import BEGAN, CALLER, KEY, OTHER, entry, ids, write


async def test_a_call_comes_back_as_it_was_written(
    database: Database, history: History, tmp_path: Path
) -> None:
    written = entry("Hello, Zoë.", "Nul: \ufffd, quote: ' \" and \\", "“fine” \U0001f600")
    await write(database, [written], tmp_path)
    assert await history.call(written.id) == written.whole
    page = await history.search(Search())
    assert page == Page((written.whole.call,), None)
    assert from_dict(orjson.loads(orjson.dumps(written.whole.as_dict()))) == written.whole


async def test_a_call_in_progress_is_overwritten_and_never_reopened(
    database: Database, history: History, tmp_path: Path
) -> None:
    first = entry("Hello", over=False)
    await write(database, [first], tmp_path)
    assert (await history.search(Search(outcome=Outcome.IN_PROGRESS))).calls
    over = dataclasses.replace(first.whole.call, ended_at=BEGAN, outcome=Outcome.HUNG_UP)
    details = entry("Hello", "goodbye").whole.details
    last = Entry(dataclasses.replace(first.whole, call=over, details=details), CALLER)
    await write(database, [last], tmp_path)
    await write(database, [first], tmp_path)
    whole = await history.call(first.id)
    assert whole is not None
    assert whole.call == over
    assert await history.count(Search(outcome=Outcome.IN_PROGRESS)) == 0


TEXTS = [
    ("harbour", {0, 1}),
    ("HARBOUR inn", {0}),
    ('"inn harbour"', set()),
    ('"harbour inn"', {0}),
    ("inn harbour", {0}),
    ("harb*", {0, 1, 2}),
    ('"harbour inn" wel*', {0}),
    ("don't", {1}),
    ("zoë", {2}),
    ("zoe", set()),
    ("STRASSE", {3}),
    ("straße", {3}),
    ("3.5", {3}),
    ("日本", {3}),
    ("OR", set()),
    ("NOT harbour", set()),
    ("text:harbour", set()),
    ("harbour) OR (1", set()),
    ("';--harbour", {0, 1}),
]


@pytest.mark.parametrize(("text", "found"), TEXTS)
async def test_texts(
    text: str, found: set[int], database: Database, history: History, tmp_path: Path
) -> None:
    calls = [
        entry("Welcome to the Harbour Inn!", "How are you?", minute=0),
        entry("The harbour? I don't know.", minute=1),
        entry("Zoë harbours no doubt.", minute=2),
        entry("Die Straße ist 3.5 km lang: 日本 .", minute=3),
    ]
    await write(database, calls, tmp_path)
    page = await history.search(Search(text=text))
    assert {n for n, call in enumerate(calls) if call.id in ids(page.calls)} == found


@pytest.mark.parametrize(
    "search",
    [
        Search(text="?!"),
        Search(text="x" * 201),
        Search(limit=0),
        Search(limit=501),
        Search(after="nonsense"),
        Search(after="WzFd"),
        Search(since=datetime(2026, 1, 1)),
    ],
)
async def test_what_can_not_be_searched_for_is_told(search: Search, history: History) -> None:
    with pytest.raises(HistoryError, match=r"text: |limit: |after: |since: "):
        await history.search(search)


async def test_filters(database: Database, history: History, tmp_path: Path) -> None:
    calls = [
        entry("one", minute=0, persona="noir", duration_s=10.0),
        entry("two", minute=1, number=OTHER, outcome=Outcome.MODEL_FAILED, model_failed=True),
        entry("three", minute=2, over=False, duration_s=500.0),
    ]
    await write(database, calls, tmp_path)

    async def found(search: Search) -> list[int]:
        page = await history.search(search)
        assert await history.count(search) == len(page.calls)
        return [n for n, call in enumerate(calls) if call.id in ids(page.calls)]

    assert await found(Search(persona="noir")) == [0]
    assert await found(Search(number="+1 (555) 123-0222")) == [1]
    assert await found(Search(number="+15551230333")) == []
    assert await found(Search(outcome=Outcome.MODEL_FAILED)) == [1]
    assert await found(Search(model_failed=True)) == [1]
    assert await found(Search(model_failed=False)) == [0, 2]
    assert await found(Search(min_duration_s=60.0)) == [1, 2]
    assert await found(Search(since=BEGAN + timedelta(minutes=1))) == [1, 2]
    assert await found(Search(until=BEGAN + timedelta(minutes=1))) == [0]
    assert await found(Search(text="three", number=CALLER, outcome=Outcome.IN_PROGRESS)) == [2]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", list(Sort))
async def test_pages_have_every_call_once_in_order(
    sort: Sort, descending: bool, database: Database, history: History, tmp_path: Path
) -> None:
    chance = random.Random(7)
    calls = [
        entry(
            "hello",
            minute=chance.choice([0, 1, 2]),
            duration_s=chance.choice([1.0, 2.5, 2.5, 1 / 3]),
            turn_delay_s=chance.choice([None, 0.1, 0.7]),
            barge_ins=chance.choice([0, 1]),
        )
        for _ in range(53)
    ]
    await write(database, calls, tmp_path)
    search = Search(sort=sort, descending=descending, limit=10, text="hello")
    seen, page = list[Call](), await history.search(search)
    seen += page.calls
    while page.next is not None:
        assert len(page.calls) == 10
        page = await history.search(dataclasses.replace(search, after=page.next))
        seen += page.calls
    expected = [one.whole.call for one in calls]
    if sort is Sort.DELAY:
        expected = [call for call in expected if call.turn_delay_s is not None]
    value = {
        Sort.STARTED: lambda call: call.id,
        Sort.DURATION: lambda call: (call.duration_s, call.id),
        Sort.DELAY: lambda call: (call.turn_delay_s, call.id),
        Sort.BARGE_INS: lambda call: (call.barge_ins, call.id),
    }[sort]
    assert seen == sorted(expected, key=value, reverse=descending)
    other = Search(sort=sort, descending=not descending, after=page.next or "WzFd")
    with pytest.raises(HistoryError, match="after"):
        await history.search(other)


async def test_export_and_back(database: Database, history: History, tmp_path: Path) -> None:
    calls = [entry("=1+1", f"phrase {n}, and", minute=n) for n in range(450)]
    await write(database, reversed(calls), tmp_path)
    search = Search(text="phrase")
    text = b"".join([part async for part in export(history, search, Format.JSON)])
    assert [from_dict(known) for known in orjson.loads(text)] == [one.whole for one in calls]

    told = list[int]()
    parts = [part async for part in export(history, search, Format.CSV, told.append)]
    assert told == list(range(1, 451))
    rows = list(csv.DictReader(io.StringIO(b"".join(parts).decode(), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["id"] for row in rows] == [one.id for one in calls]
    assert rows[0]["transcript"] == "'=1+1\nphrase 0, and", "no formula for a spreadsheet"
    assert rows[0]["caller"] == "'+155***11"
    known = calls[0].whole.call.as_dict()
    shown = {name: "" if known[name] is None else str(known[name]) for name in COLUMNS}
    assert {name: rows[0][name].removeprefix("'") for name in COLUMNS} == shown | {
        "model_failed": "false"
    }
    nothing = [part async for part in export(history, Search(text="nothing"), Format.JSON)]
    assert orjson.loads(b"".join(nothing)) == []


async def test_stats(database: Database, history: History, tmp_path: Path) -> None:
    assert (await history.stats()).calls == 0
    calls = [entry("a", minute=1440 * (n // 10), duration_s=float(n)) for n in range(20)]
    calls += [entry("b", persona="noir", outcome=Outcome.LOST, duration_s=0.0, turn_delay_s=None)]
    await write(database, calls, tmp_path)
    stats = await history.stats()
    assert (stats.calls, stats.in_progress, stats.model_failed) == (21, 0, 0)
    assert stats.by_outcome == {"hung-up": 20, "lost": 1}
    assert stats.by_persona == {"assistant": 20, "noir": 1}
    assert stats.by_day == {"2026-03-01": 11, "2026-03-02": 10}
    assert stats.hours == round(190 / 3600, 3)
    assert (stats.duration_s.median, stats.duration_s.p95) == (9.0, 18.0)
    assert stats.turn_delay_s.median == 0.45
    later = await history.stats(Search(since=BEGAN + timedelta(days=1)))
    assert later.by_day == {"2026-03-02": 10}
    assert orjson.dumps(later.as_dict())


async def test_a_deleted_call_is_gone(database: Database, history: History, tmp_path: Path) -> None:
    calls = [entry("hello", minute=n) for n in range(3)]
    await write(database, calls, tmp_path)
    assert await history.delete_call(calls[1].id) == Deletion(1, 0)
    assert await history.delete_call(calls[1].id) == Deletion(0, 0)
    assert await history.call(calls[1].id) is None
    assert ids((await history.search(Search(text="hello"))).calls) == [calls[2].id, calls[0].id]
    for wrong in ("", "1", "G" * 16, "f" * 16, "A" * 16):
        with pytest.raises(HistoryError, match="no call's id"):
            await history.delete_call(wrong)


async def test_recordings_go_with_their_calls(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    (folder / "2026-03-01").mkdir(parents=True)
    names = ["2026-03-01/1.opus", "2026-03-01/2.opus", "2026-03-01/3.opus", "../4.opus", "5"]
    calls = [entry("hello", minute=n) for n in range(5)]
    calls[2] = entry("hello", minute=2, number=OTHER)
    for one, name in zip(calls, names, strict=True):
        (folder / name).write_text("sound")
        figures = one.whole.details.figures
        assert isinstance(figures, dict)
        figures["recording"] = f"/wherever/{name}"
    await write(database, calls, tmp_path)
    history = History(database, recordings=folder)
    assert await history.recording(calls[0].whole) == folder / names[0]
    assert await history.delete_call(calls[0].id) == Deletion(1, 1)
    assert await history.recording(calls[0].whole) is None
    (folder / names[1]).rename(folder / f"{names[1]}.part")  # its bridge died
    names[1] += ".part"
    assert [(folder / name).exists() for name in names] == [False, True, True, True, True]
    assert await history.recording(calls[1].whole) == folder / names[1]
    for outside in calls[3:]:
        assert await history.recording(outside.whole) is None
    assert await history.delete_caller(CALLER) == Deletion(3, 1, 2)
    assert [(folder / name).exists() for name in names] == [False, False, True, True, True]


async def test_a_recording_that_stays_is_told_of(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    stuck = folder / "2026-03-01" / "1.opus"
    stuck.mkdir(parents=True)  # no file: it can't be unlinked
    one = entry("hello")
    assert isinstance(one.whole.details.figures, dict)
    one.whole.details.figures["recording"] = str(stuck)
    await write(database, [one], tmp_path)
    history = History(database, recordings=folder)
    assert await history.recording(one.whole) is None
    for _ in range(2):
        with pytest.raises(RecordingsStay, match="can't delete") as told:
            await history.delete_call(one.id)
        assert told.value.deletion == Deletion(0, 0)
        assert await history.call(one.id) is not None, "or nobody would know of the file"
    stuck.rmdir()
    stuck.write_text("sound")
    assert await history.delete_call(one.id) == Deletion(1, 1)
    assert not stuck.exists()


async def test_what_can_be_deleted_of_a_caller_is(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    calls = [entry("hello", minute=n) for n in range(BATCH + 3)]
    paths = [folder / "2026-03-01" / f"{n}.opus" for n in range(len(calls))]
    for one, path in zip(calls, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("sound")
        assert isinstance(one.whole.details.figures, dict)
        one.whole.details.figures["recording"] = str(path)
    stuck = [0, 1, 2, 3, len(calls) - 1]
    for number in stuck:
        paths[number].unlink()
        paths[number].mkdir()
    await write(database, calls, tmp_path)
    history = History(database, recordings=folder)
    with pytest.raises(RecordingsStay, match=r"recordings: 5; .*; and 2 more") as told:
        await history.delete_caller(CALLER)
    assert told.value.deletion == Deletion(len(calls) - 5, len(calls) - 5)
    left = ids((await history.search(Search(descending=False))).calls)
    assert left == [calls[number].id for number in stuck]
    assert [path for path in paths if path.exists()] == [paths[number] for number in stuck]


async def test_the_caller_of_a_call_is_deleted(
    database: Database, history: History, tmp_path: Path
) -> None:
    theirs = [entry("hello", minute=n) for n in range(3)]
    other, nobody = entry("hello", number=OTHER), entry("hello", number="")
    await write(database, [*theirs, other, nobody], tmp_path)
    assert await history.delete_caller_of("0" * 16) is None
    with pytest.raises(HistoryError, match="not known who"):
        await history.delete_caller_of(nobody.id)
    assert await history.delete_caller_of(theirs[1].id) == Deletion(3, 0)
    left = ids((await history.search(Search())).calls)
    assert sorted(left) == sorted([other.id, nobody.id])


async def test_all_calls_are_read_a_few_at_a_time(
    database: Database, history: History, tmp_path: Path
) -> None:
    calls = [entry("hello", minute=n) for n in range(PAGE + BATCH + 1)]
    await write(database, [*calls, entry("bye")], tmp_path)
    read = [whole async for whole in history.whole_calls(Search(text="hello"))]
    assert [whole.call.id for whole in read] == [call.id for call in calls]


async def test_deleting_a_caller_leaves_no_trace(
    database: Database,
    history: History,
    url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    calls = [entry("xylophone zanzibar", minute=n, call_sid="CAxylophone") for n in range(250)]
    others = [entry("hello", minute=n, number=OTHER) for n in range(50)]
    anonymous = entry("who", number="anonymous")
    await write(database, [*calls, *others, anonymous], tmp_path)
    told = list[int]()
    assert await history.delete_caller("+1 555 123 0111", told.append) == Deletion(250, 0)
    assert told == [100, 200]
    assert await history.delete_caller(CALLER) == Deletion(0, 0)
    assert await history.count(Search()) == 51
    assert await history.count(Search(text="xylophone")) == 0
    assert await history.delete_caller("Anonymous") == Deletion(1, 0)
    with pytest.raises(HistoryError, match="a number is needed"):
        await history.delete_caller(" ")

    traces = (b"xylophone", b"zanzibar", database.hash_of(CALLER).encode())
    if database.is_sqlite:
        stored = _bytes_in(tmp_path)
        assert b"hello" in stored
    else:
        postgres = request.getfixturevalue("postgres")
        postgres.execute("CREATE EXTENSION pgstattuple", "calls")
        for table in ("calls", "details"):
            dead = f"SELECT dead_tuple_count FROM pgstattuple('{table}')"
            assert postgres.execute(dead, "calls") == "0"
        stored = postgres.execute("SELECT calls, details FROM calls, details", "calls").encode()
    for trace in traces:
        assert trace not in stored


async def test_numbers_are_not_stored(
    database: Database, url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    await write(database, [entry("hello")], tmp_path)
    if database.is_sqlite:
        stored = _bytes_in(tmp_path)
    else:
        postgres = request.getfixturevalue("postgres")
        stored = postgres.execute("SELECT calls, details FROM calls, details", "calls").encode()
    assert b"+155***11" in stored
    assert CALLER[1:].encode() not in stored
    assert KEY.encode() not in stored


def _bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_another_key_is_refused(url: str) -> None:
    for first, second in ((KEY, KEY + "2"), (KEY, None)):
        database = Database(database_url(url), first)
        await database.prepare()
        await database.close()
        again = Database(database_url(url), second)
        with pytest.raises(ConfigError, match="HISTORY_KEY"):
            await again.prepare()
        await again.close()


async def test_a_key_of_its_own_is_kept(url: str) -> None:
    hashes = set()
    for _ in range(2):
        database = Database(database_url(url))
        with pytest.raises(HistoryUnavailable, match="not been reached"):
            database.hash_of(CALLER)
        await database.prepare()
        hashes.add(database.hash_of(CALLER))
        await database.close()
    assert len(hashes) == 1


async def test_old_calls_go_and_abandoned_ones_are_closed(
    database: Database, history: History, tmp_path: Path
) -> None:
    now = BEGAN + timedelta(days=40)
    old = [entry("xylophone", minute=n) for n in range(230)]
    left = entry("left", began=now - timedelta(hours=25), over=False, bridge="elsewhere")
    new = entry("new", began=now - timedelta(hours=1), over=False, bridge="elsewhere")
    await write(database, [*old, left, new], tmp_path)
    assert await sweep(database, None, now) == 0
    assert await history.count(Search(outcome=Outcome.LOST)) == 1
    assert await sweep(database, 41, now) == 0
    assert await sweep(database, 30, now) == 230
    page = await history.search(Search())
    assert [call.outcome for call in page.calls] == [Outcome.IN_PROGRESS, Outcome.LOST]
    assert await history.count(Search(text="xylophone")) == 0
    assert not database.is_sqlite or b"xylophone" not in _bytes_in(tmp_path)
    assert datetime.now(UTC) > now - timedelta(days=10_000)


def is_there(path: Path) -> bool:
    return path.exists()


async def test_another_process_leaves_our_journal_alone(tmp_path: Path) -> None:
    """Who closes the file last deletes its journal, unless SQLite sees our lock: of several
    connections, too.
    """
    file = tmp_path / "calls.db"
    database = Database(database_url(f"sqlite:///{file}"), KEY)
    try:
        await write(database, [entry("before")], tmp_path)
        async with database.engine.connect(), database.engine.connect():
            pass
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM calls')"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", look, str(file))
        assert await process.wait() == 0
        assert is_there(tmp_path / "calls.db-wal")
        await write(database, [entry("after")], tmp_path)
        with sqlite3.connect(file) as other:
            assert other.execute("SELECT count(*) FROM calls").fetchone() == (2,)
        other.close()
    finally:
        await database.close()
