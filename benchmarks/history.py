"""What the call history costs: searches of 100,000 calls in both databases, and the event loop's
delay while calls are written.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from personaplex_bridge.callers import masked
from personaplex_bridge.history import writing
from personaplex_bridge.history.backlog import Backlog, Entry
from personaplex_bridge.history.calls import (
    Call,
    Details,
    Event,
    EventKind,
    Outcome,
    Phrase,
    WholeCall,
    new_id,
)
from personaplex_bridge.history.database import Database
from personaplex_bridge.history.queries import Search, Sort
from personaplex_bridge.history.spool import Spool
from personaplex_bridge.history.store import History
from personaplex_bridge.history.writing import Writer
from personaplex_bridge.values import database_url
from tests.history.postgres import PostgresServer

CALLS = 100_000
WRITTEN = 1_000
"""Calls written while the event loop's delay is measured."""
REPEATS = 25
FILL_BATCH = 500
"""Nobody is calling while the databases are filled."""

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 60
PERSONAS = ("assistant", "interpreter", "noir", "head-coach", "strategist", "entertainer")
WORDS = 5_000
TRANSCRIPTS = 5_000
CALLERS = 8_000
OFTEN, SELDOM = 0, 4_000
"""Words by their rank: nearly every call has the first, few have the other."""


def measure() -> dict[str, Any]:
    """Both databases, one after the other."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/calls.db"
        results["sqlite"] = uvloop.run(_measure(url, sqlite3.sqlite_version))
    server = PostgresServer()
    try:
        server.start()
        version = server.execute("SHOW server_version").split()[0]
        results["postgresql"] = uvloop.run(_measure(server.new_database("calls"), version))
    finally:
        server.remove()
    packages = ("sqlalchemy", "aiosqlite", "asyncpg")
    return {
        "calls": CALLS,
        "packages": {name: metadata.version(name) for name in packages},
        "databases": results,
    }


async def _measure(url: str, version: str) -> dict[str, Any]:
    database = Database(database_url(url), "0123456789abcdef")
    history = History(database)
    try:
        print(f"history: {database.name} {version}: writing {CALLS} calls ...", flush=True)
        began_s = time.perf_counter()
        await _fill(database)
        filled_s = time.perf_counter() - began_s
        if not database.is_sqlite:
            await _analyze(database)
        searches = {}
        for name, kind in _kinds().items():
            searches[name] = await _time(history, kind)
            print(f"  {name}: {searches[name]}", flush=True)
        began_s = time.perf_counter()
        await history.stats()
        stats_ms = 1000 * (time.perf_counter() - began_s)
        return {
            "version": version,
            "filled_s": round(filled_s, 1),
            "searches": searches,
            "slowest_p95_ms": max(times["p95_ms"] for times in searches.values()),
            "stats_ms": round(stats_ms, 1),
            "event_loop": await _lag(database),
        }
    finally:
        await database.close()


async def _fill(database: Database) -> None:
    with _batches_of(FILL_BATCH):
        chance, entries = random.Random(1), list[Entry]()
        for number in range(CALLS):
            entries.append(_entry(chance, number))
            if len(entries) == 10_000:
                await _write(database, entries)
                entries.clear()


async def _analyze(database: Database) -> None:
    """What autovacuum does within a minute."""
    async with database.writing, database.changing() as connection:
        await connection.exec_driver_sql("ANALYZE calls, details")


class _batches_of:  # noqa: N801 - reads as a sentence
    def __init__(self, size: int) -> None:
        self._size, self._usual = size, writing.BATCH

    def __enter__(self) -> None:
        writing.BATCH = self._size

    def __exit__(self, *_: object) -> None:
        writing.BATCH = self._usual


async def _write(database: Database, entries: list[Entry]) -> None:
    backlog = Backlog(len(entries))
    for entry in entries:
        backlog.put(entry)
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool.jsonl")
        await Writer(database, backlog, spool, "bench", 0).finish(600.0)
        assert not spool.path.exists()


def _entry(chance: random.Random, number: int) -> Entry:
    """A call of about a minute."""
    began = FIRST + timedelta(days=DAYS * number / CALLS)
    duration_s = round(chance.expovariate(1 / 60), 2)
    phrases = chance.choice(_transcripts())
    turns = len(phrases)
    failed = chance.random() < 0.03
    party = f"+1555{chance.randrange(CALLERS):07d}"
    call = Call(
        id=new_id(began),
        call_sid=f"CA{number:032x}",
        stream_sid=f"MZ{number:032x}",
        bridge="https://bridge.example.com",
        persona=PERSONAS[min(int(chance.expovariate(1.0)), len(PERSONAS) - 1)],
        model_server=1 + number % 8,
        caller=masked(party),
        called="+155***00",
        started_at=began,
        updated_at=began + timedelta(seconds=duration_s),
        ended_at=began + timedelta(seconds=duration_s),
        outcome=Outcome.MODEL_FAILED if failed and number % 2 else Outcome.HUNG_UP,
        ended_by="caller",
        ended_reason="the caller hung up",
        close_code=1000,
        duration_s=duration_s,
        handshake_s=0.0,
        first_audio_s=0.13,
        turns=turns,
        turn_delay_s=round(chance.lognormvariate(-0.8, 0.4), 3),
        barge_ins=chance.randrange(4),
        failures=int(failed),
        model_failed=failed,
        keys=0,
        gaps=0,
    )
    events = tuple(Event(p.at_s, EventKind.TURN, {"delay_s": 0.41}) for p in phrases)
    figures = {f"frames_{n}": number for n in range(25)}
    return Entry(WholeCall(call, Details(phrases, events, figures)), party)


@functools.cache
def _transcripts() -> tuple[tuple[Phrase, ...], ...]:
    """What the model says in calls of about a minute."""
    chance, made = random.Random(4), []
    for _ in range(TRANSCRIPTS):
        phrases, at_s = [], 0.0
        for _ in range(chance.randint(4, 16)):
            at_s += chance.uniform(2, 6)
            # Zipf's law, roughly: the nth word is n times as rare as the first.
            ranks = (int(WORDS ** chance.random()) - 1 for _ in range(8))
            text = " ".join(_word(rank) for rank in ranks).capitalize() + "."
            phrases.append(Phrase(at_s, text))
        made.append(tuple(phrases))
    return tuple(made)


def _word(rank: int) -> str:
    """A word of its own for each rank, which begins as some others do."""
    letters = "etaoinshrdlucmfwypvb"
    word = ""
    rank += 20
    while rank:
        rank, letter = divmod(rank, 20)
        word = letters[letter] + word
    return word


def _kinds() -> dict[str, Iterator[Search]]:
    """Searches, each without end and each time another."""
    chance = random.Random(2)

    def kind(make: Any) -> Iterator[Search]:
        while True:
            yield make()

    def seldom() -> str:
        return _word(SELDOM + chance.randrange(500))

    def often() -> str:
        return _word(OFTEN + chance.randrange(3))

    def day() -> datetime:
        return FIRST + timedelta(days=chance.uniform(1, DAYS - 2))

    def number() -> str:
        return f"+1555{chance.randrange(CALLERS):07d}"

    makers = {
        "newest": lambda: Search(),
        "of a day": lambda: Search(since=(since := day()), until=since + timedelta(days=1)),
        "a caller's": lambda: Search(number=number()),
        "a common word": lambda: Search(text=often()),
        "a rare word": lambda: Search(text=seldom()),
        "words in a row": lambda: Search(text=f'"{often()} {often()}"'),
        "the beginning of a word": lambda: Search(text=f"{_word(chance.randrange(300))[:2]}*"),
        "a common word, longest first": lambda: Search(text=often(), sort=Sort.DURATION),
        "words, persona, outcome, length": lambda: Search(
            text=f"{often()} {_word(200 + chance.randrange(100))}",
            persona=chance.choice(PERSONAS),
            outcome=Outcome.HUNG_UP,
            min_duration_s=30.0,
        ),
        "model failed, slowest first": lambda: Search(
            model_failed=True, sort=Sort.DELAY, since=day()
        ),
    }
    return {name: kind(make) for name, make in makers.items()}


async def _time(history: History, searches: Iterator[Search]) -> dict[str, float]:
    """The first page and the second of several searches, in milliseconds."""
    times_ms, found = [], 0
    for _ in range(REPEATS):
        search = next(searches)
        for _ in range(2):
            began_s = time.perf_counter()
            page = await history.search(search)
            times_ms.append(1000 * (time.perf_counter() - began_s))
            found += len(page.calls)
            if page.next is None:
                break
            search = dataclasses.replace(search, after=page.next)
    times_ms.sort()
    return {
        "median_ms": round(median(times_ms), 1),
        "p95_ms": round(times_ms[int(0.95 * (len(times_ms) - 1))], 1),
        "max_ms": round(times_ms[-1], 1),
        "found_at_the_mean": round(found / len(times_ms), 1),
    }


async def _lag(database: Database) -> dict[str, Any]:
    """How late a timer is while nothing happens, and while calls are written as a bridge does."""
    chance = random.Random(3)
    entries = [_entry(chance, CALLS + number) for number in range(WRITTEN)]
    async with _measured() as idle:
        await asyncio.sleep(2.0)
    began_s = time.perf_counter()
    async with _measured() as busy:
        await _write(database, entries)
    return {
        "calls_written": WRITTEN,
        "took_s": round(time.perf_counter() - began_s, 2),
        "idle": _late(idle),
        "while_writing": _late(busy),
    }


@asynccontextmanager
async def _measured() -> AsyncIterator[list[float]]:
    """How late each turn of 5 ms was, in milliseconds."""
    late_ms = list[float]()

    async def tick() -> None:
        while True:
            due_s = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            late_ms.append(1000 * (time.perf_counter() - due_s))

    task = asyncio.create_task(tick())
    try:
        yield late_ms
    finally:
        task.cancel()


def _late(late_ms: list[float]) -> dict[str, float]:
    late_ms = sorted(late_ms)
    return {
        "median_ms": round(median(late_ms), 2),
        "p99_ms": round(late_ms[int(0.99 * (len(late_ms) - 1))], 2),
        "max_ms": round(late_ms[-1], 2),
    }
