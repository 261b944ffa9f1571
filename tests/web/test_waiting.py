"""Callers who hold, with a pool that does what a test says, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from personaplex_bridge.audio.hold import music
from personaplex_bridge.clock import LoopClock
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import (
    LeasesUnavailable,
    ModelBusy,
    ModelError,
    ModelUnavailable,
    QueueFull,
)
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import choose, load_catalogue
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.admission import RESERVE_TIMEOUT_S, Admission
from personaplex_bridge.web.answers import Answers
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import QUEUED_PATH, WAIT_PATH, WEBHOOK_PATH
from personaplex_bridge.web.waiting import (
    HOPE_S,
    TELL_AGAIN_AFTER_S,
    TELL_CHANGE_AFTER_S,
    Waiting,
)
from personaplex_bridge.web.webhooks import Webhooks
from tests.virtual import in_virtual_time

HOST, CLOCK = "127.0.0.1", LoopClock()


@dataclass
class Pool:
    """What it answers, and who has left."""

    refusal: ModelError | None = field(default_factory=lambda: ModelBusy("all are taken"))
    waiting: int | ModelError = 1
    hangs: bool = False
    awaited: frozenset[str] = frozenset()
    patience: list[bool] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    async def reserve(self, _call: str, _role: Role, *, patient: bool = True) -> None:
        self.patience.append(patient)
        if self.hangs:
            await asyncio.sleep(3600)
        if self.refusal is not None:
            raise self.refusal

    async def wait(self, _call: str) -> int:
        if isinstance(self.waiting, ModelError):
            raise self.waiting
        return self.waiting

    async def leave(self, call: str) -> None:
        self.left.append(call)


@dataclass
class Line:
    """The routes, and a pool behind them."""

    pool: Any
    waiting: Waiting
    http: aiohttp.ClientSession
    port: int

    async def ask(self, path: str, call: str = "CA1", **form: str) -> str:
        """What a webhook answers, in one word: the first verb, or what is said or played."""
        url = f"http://{HOST}:{self.port}{path}"
        async with self.http.post(url, data={"CallSid": call, **form}) as response:
            assert response.status == 200
            text = await response.text()
        body = text.partition("<Response>")[2]
        if "number " in body:
            return "place " + body.partition("number ")[2].split()[0]
        if "/voice/hold/" in body:
            return "piece " + body.partition("/voice/hold/")[2].partition(".")[0]
        return body.partition("<")[2].split()[0].split(">")[0]

    async def hold(self, call: str = "CA1", **form: str) -> str:
        return await self.ask(WAIT_PATH, call, **form)


@asynccontextmanager
async def line_with(pool: Pool, **changes: Any) -> AsyncIterator[Line]:
    settings = Settings(**changes)
    access = Access(settings, CLOCK)
    double: Any = pool
    admission = Admission(double, settings.max_calls, list)
    chosen = partial(choose, load_catalogue(), "assistant")
    lines = access, Answers(settings, access, None), admission, chosen
    waiting = Waiting(*lines, settings, music(), CLOCK)
    app = web.Application()
    waiting.add_to(app.router)
    Webhooks(*lines, settings).add_to(app.router)
    async with hosted(app, HOST, 0) as port, aiohttp.ClientSession() as http:
        yield Line(pool, waiting, http, port)


@in_virtual_time
async def test_what_is_told_and_when() -> None:
    pool = Pool(waiting=3)
    async with line_with(pool) as line:
        assert await line.hold() == "place 3"
        assert await line.hold() == "piece 0"
        pool.waiting = 2
        assert await line.hold() == "piece 1", "not so soon"
        await asyncio.sleep(TELL_CHANGE_AFTER_S)
        assert await line.hold() == "place 2"
        await asyncio.sleep(TELL_AGAIN_AFTER_S - 1)
        assert await line.hold() == "piece 2"
        await asyncio.sleep(1)
        assert await line.hold() == "place 2"
        pool.refusal = None
        assert await line.hold() == "Leave"
    assert not any(pool.patience)


@in_virtual_time
async def test_a_short_failure_of_everything_does_not_empty_the_line() -> None:
    pool = Pool(waiting=3)
    async with line_with(pool) as line:
        assert await line.hold() == "place 3"
        pool.refusal = ModelUnavailable("all down")
        assert await line.hold() == "piece 0"
        await asyncio.sleep(HOPE_S - 1)
        assert await line.hold() == "piece 1"
        pool.refusal = ModelBusy("taken")
        assert await line.hold() == "piece 2", "well again"
        pool.refusal = pool.waiting = LeasesUnavailable("no Redis")
        await asyncio.sleep(2)
        assert await line.hold() == "piece 3"
        await asyncio.sleep(HOPE_S)
        assert await line.hold() == "Leave"
        assert await line.ask(QUEUED_PATH, QueueResult="leave") == "Say"
    assert pool.left == ["CA1"]


@pytest.mark.parametrize(
    ("path", "form", "answer"),
    [
        (WEBHOOK_PATH, {}, "Say"),
        (WAIT_PATH, {}, "place 1"),
        (QUEUED_PATH, {"QueueResult": "leave"}, "Say"),
    ],
)
@in_virtual_time
async def test_nobody_can_say_in_time(path: str, form: dict[str, str], answer: str) -> None:
    """Twilio waits 15 s, and then tells the caller of an application error."""
    async with line_with(Pool(hangs=True)) as line:
        assert await line.ask(path, **form) == answer
        assert CLOCK.now() < RESERVE_TIMEOUT_S + 0.1 < 15


@in_virtual_time
async def test_the_queues_time_is_over() -> None:
    pool = Pool()
    async with line_with(pool, queue_timeout_s=30.0) as line:
        assert await line.hold() == "place 1"
        await asyncio.sleep(29.0)
        assert await line.hold() == "piece 0"
        assert await line.hold("CA2", QueueTime="29") == "place 1", "held before we began"
        await asyncio.sleep(1.0)
        assert await line.hold() == await line.hold("CA2") == "Leave"
        pool.refusal = None
        assert await line.ask(QUEUED_PATH, QueueResult="leave") == "Connect", "just in time"


@in_virtual_time
async def test_a_line_that_was_lost_on_the_way_out_of_the_queue() -> None:
    """Somebody else has it: the caller holds on, but no longer than anybody may."""
    pool = Pool(refusal=None)
    async with line_with(pool, queue_timeout_s=30.0) as line:
        assert await line.hold(QueueTime="10") == "Leave"
        pool.refusal = ModelBusy("taken")
        form = {"QueueResult": "leave", "QueueTime": "10"}
        assert await line.ask(QUEUED_PATH, **form) == "Enqueue"
        assert pool.left == []
        assert await line.hold(QueueTime="0") == "place 1"
        await asyncio.sleep(20.0)
        assert await line.hold(QueueTime="20") == "Leave"
        assert await line.ask(QUEUED_PATH, QueueResult="leave", QueueTime="20") == "Say"
        assert pool.left == ["CA1"]


@in_virtual_time
async def test_a_place_that_was_lost() -> None:
    pool = Pool(waiting=QueueFull("full"))
    async with line_with(pool) as line:
        assert await line.ask(WEBHOOK_PATH) == "Reject"
        assert await line.hold() == "Leave"
        assert await line.ask(QUEUED_PATH, QueueResult="leave") == "Say"
        pool.waiting = LeasesUnavailable("no Redis")
        assert await line.ask(WEBHOOK_PATH) == "Say"


@in_virtual_time
async def test_memory_is_bounded_and_forgets_those_who_say_nothing() -> None:
    async with line_with(Pool(), queue_limit=10, webhook_rate=1000) as line:
        for number in range(50):
            await line.hold(f"CA{number}")
        assert len(line.waiting._holders._holders) == 10
        assert line.waiting.is_used
        await line.ask(QUEUED_PATH, "CA49", QueueResult="hangup")
        assert len(line.waiting._holders._holders) == 9
        await asyncio.sleep(45.1)
        assert not line.waiting.is_used
