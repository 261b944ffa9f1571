"""Those who watch the bridge: one look at it, four times a second, for all of them; less often
when there are many calls.

Nobody watches, nobody looks. A watcher first gets all there is, then what changes. One that comes
back within seconds, and says what it saw last, gets only what it has missed. One that is slow to
take what it gets is let go: it comes back by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from personaplex_bridge import logs
from personaplex_bridge.clock import Clock
from personaplex_bridge.console.picture import Change, Look, Picture

_log = logging.getLogger(logs.NAME)

LOOK_EVERY_S = 0.25

CALLS_A_SECOND = 100
"""Calls looked at, at most, beside the look that each new watcher begins with: with more than 25
there is more time between looks, so that what watching costs has a bound. (50 calls: two a second.)
"""

MAX_WATCHERS = 100

MAX_WAITING = 40
"""Events that may wait for a watcher: ten seconds of them, or more."""

MAX_MISSED = 40
"""Events kept for those who come back."""

HEARTBEAT_S = 15.0
"""When nothing has changed for so long, something is sent all the same: so either side notices
when the other is gone, and proxies don't take the connection for idle.
"""

HEARTBEAT = b"event: beat\ndata: {}\n\n"
"""An event, not a comment: scripts see no comments."""


def pause_s(calls: int) -> float:
    """How long it is from a look at so many calls to the next."""
    return max(LOOK_EVERY_S, calls / CALLS_A_SECOND)


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    id: str
    kind: str
    """`state`: all there is. `change`: what is another now."""
    data: bytes
    """JSON."""

    def serialize(self) -> bytes:
        """The event on the wire."""
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (
            self.id.encode(),
            self.kind.encode(),
            self.data,
        )


class Watcher:
    """One who watches: an iterator of events, and of None when a heartbeat is due."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(MAX_WAITING + MAX_MISSED + 1)
        self._is_over = False

    def tell(self, event: Event) -> None:
        """One more event; too many that wait end it."""
        if self._events.qsize() >= MAX_WAITING + MAX_MISSED:
            self.end()
        else:
            self._events.put_nowait(event)

    def end(self) -> None:
        """No more events. What waits is forgotten."""
        self._is_over = True
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event | None]:
        """Events as they come, until `end`."""
        while not self._is_over:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    event = await self._events.get()
            except TimeoutError:
                yield None
                continue
            if event is not None:
                yield event


class Watching:
    """All who watch. `instance` tells the ids of this bridge's events from those of others."""

    def __init__(self, look: Look, instance: str, clock: Clock) -> None:
        self._look = look
        self._instance = instance
        self._clock = clock
        self._present: set[Watcher] = set()
        self._watchers: set[Watcher] = set()
        """Of these, those who have been told what there is: from now on they are told changes."""
        self._before: Picture | None = None
        self._number = 0
        self._latest: deque[Event] = deque(maxlen=MAX_MISSED)
        self._looking: asyncio.Task[None] | None = None
        self._one_look = asyncio.Lock()
        self._is_closed = False

    def __len__(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def is_full(self) -> bool:
        """Whether one more is too many, or the bridge is being stopped."""
        return self._is_closed or len(self._present) >= MAX_WATCHERS

    @asynccontextmanager
    async def watcher(self, last_id: str = "") -> AsyncIterator[Watcher]:
        """Watch inside the block. `last_id` is of the event that was seen last, before."""
        watcher = Watcher()
        self._present.add(watcher)
        try:
            async with self._one_look:
                for event in await self._missed(last_id, await self._see()):
                    watcher.tell(event)
                self._watchers.add(watcher)
            if self._is_closed:
                watcher.end()
            if self._looking is None:
                self._looking = asyncio.create_task(self._keep_looking(), name="console-look")
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._present.discard(watcher)
            if not self._present:
                self._rest()

    def close(self) -> None:
        """Let all go: the bridge is being stopped."""
        self._is_closed = True
        self._let_go()

    def _let_go(self) -> None:
        for watcher in self._watchers:
            watcher.end()

    async def _missed(self, last_id: str, now: Picture) -> list[Event]:
        """What came after an event, if that is known; else all there is."""
        ids = [event.id for event in self._latest]
        if last_id in ids:
            return list(self._latest)[ids.index(last_id) + 1 :]
        return [self._event("state", await self._look.whole(now))]

    async def _keep_looking(self) -> None:
        while True:
            calls = len(self._before.calls) if self._before is not None else 0
            await self._clock.sleep_until(self._clock.now() + pause_s(calls))
            try:
                async with self._one_look:
                    await self._see()
            except Exception:
                _log.exception("the console can't be shown; who watches has to come again")
                self._let_go()

    async def _see(self) -> Picture:
        """Look, and tell everybody what has changed. One look at a time: hold `_one_look`."""
        now = await self._look.picture()
        before, self._before = self._before, now
        if before is not None and (change := self._look.changes(before, now)):
            self._number += 1
            event = self._event("change", change)
            if "forgotten" in change:
                self._latest.clear()  # it may tell of them
            self._latest.append(event)
            for watcher in self._watchers:
                watcher.tell(event)
        return now

    def _event(self, kind: str, content: Change) -> Event:
        return Event(f"{self._instance}-{self._number}", kind, orjson.dumps(content))

    def _rest(self) -> None:
        """Nobody watches."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._before = None
        self._latest.clear()
