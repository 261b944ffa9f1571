"""Who has which place on which model server, and who waits for one.

A lease is held from before connecting until the socket is closed, so that a server never sees two
connections in one place (docs/protocol.md). Who holds it says for what: for a call, or *spare*,
for a line that is kept warm or is still closing. A spare one is given to the next caller.

Callers who wait stand in one line, whichever bridge they called, in the order in which they first
asked. They are known by their call's SID, and forgotten when they no longer ask.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from personaplex_bridge.clock import Clock, LoopClock
from personaplex_bridge.errors import LeaseLost, QueueFull

FORGOTTEN_S = 45.0
"""A waiting caller who hasn't asked for so long has hung up. The longest BUSY_WORDS take 35 s."""

PRESENT_S = 12.0
"""One who hasn't asked for so long keeps their place, but no server stays idle for them: they
listen to long words, or their bridge is dead. The hold sound comes in pieces of 5 s.
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one connection: a model server, and a number from 0 to its capacity less 1."""

    server: str
    number: int = 0


class Refused(Enum):
    """Why there is no slot for whoever asked."""

    TAKEN = auto()
    """All are taken."""
    BEHIND = auto()
    """Others are ahead in line, and there are no more slots than they will take."""
    COMING = auto()
    """All are taken, but another bridge has been asked for its spare one: ask again soon."""
    STARTING = auto()
    """The store has just started, and lets those who hold leases tell it of them."""


class Lease:
    """A slot that is ours until `deadline_s` of the clock `now`, unless it is renewed.

    `token` rises with each lease of a slot: whoever comes with a lower one has lost it.
    """

    def __init__(
        self,
        slot: Slot,
        token: int,
        *,
        spare: bool = False,
        continues: bool = False,
        deadline_s: float = math.inf,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.slot = slot
        self.token = token
        self.spare = spare
        """No call has it: its holder may take it for one, and others may ask for it."""
        self.continues = continues
        """It was ours before, without a gap: a connection that stands may stay."""
        self.wanted = False
        """Another bridge has a caller for it: if it is spare, it is to be given back."""
        self.deadline_s = deadline_s
        self.on_change: Callable[[Lease], None] = lambda _lease: None
        """Called with it when it becomes wanted, or is lost."""
        self._now = now
        self._lost = False

    @property
    def is_lost(self) -> bool:
        """Whether it may be another's by now. Once lost, it stays lost."""
        self._lost = self._lost or self._now() >= self.deadline_s
        return self._lost

    def check(self) -> None:
        """Return if it is ours; to be asked before connecting and before anything is sent.

        Raises:
            LeaseLost: it may be another's.
        """
        if self.is_lost:
            raise LeaseLost("the lease of the model server was lost")

    def lose(self) -> None:
        """It is another's, or has run out."""
        self._lost = True
        self.on_change(self)


class LeaseStore(Protocol):
    """Leases and the line, for one bridge or for several that share their model servers."""

    @property
    def is_shared(self) -> bool:
        """Whether other bridges use it: slots then become free without our doing."""
        ...

    @property
    def is_reachable(self) -> bool:
        """Whether it answered when it was last asked."""
        ...

    @property
    def elsewhere(self) -> Collection[Slot]:
        """Slots that calls of other bridges have, as of a second ago or so."""
        ...

    async def take(
        self, slots: Sequence[Slot], call: str, *, obey_queue: bool, warm: bool
    ) -> Lease | Refused:
        """Take the first free one of `slots`, in one step. Our own spare ones are free.

        With `obey_queue`, only if fewer callers are ahead in line than slots are free; who isn't
        in line is behind all who are. Those who haven't asked for `PRESENT_S` don't count. A
        caller who gets one leaves the line.

        With `warm` the lease is spare, and is given only of slots that nobody has or wants.

        Raises:
            LeasesUnavailable: the store can't be reached.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give it back, its connection being closed. Doesn't wait; a lost one is left alone."""
        ...

    async def wait(self, call: str, limit: int) -> int:
        """Get in line, or stay there; the caller's place, from 1.

        Raises:
            QueueFull: `limit` callers are in line.
            LeasesUnavailable: the store can't be reached.
        """
        ...

    async def leave(self, call: str) -> None:
        """Get out of the line.

        Raises:
            LeasesUnavailable: the store can't be reached; the caller is forgotten in time.
        """
        ...

    def tended(self) -> AbstractAsyncContextManager[None]:
        """Renew what is held, inside the block; give everything back after it.

        Raises:
            LeasesUnavailable: the store can't be reached to begin with.
        """
        ...


class MemoryLeases:
    """The leases of one bridge that has its model servers for itself. Nothing here suspends."""

    is_shared = False
    is_reachable = True
    elsewhere: Collection[Slot] = frozenset()

    def __init__(self, clock: Clock | None = None) -> None:
        self._leases: dict[Slot, Lease] = {}
        self._tokens = itertools.count(1)
        self._line = WaitingLine(clock or LoopClock())

    async def take(
        self, slots: Sequence[Slot], call: str, *, obey_queue: bool, warm: bool
    ) -> Lease | Refused:
        """As `LeaseStore` says. Never COMING: all spare ones are our own."""
        free = [slot for slot in slots if slot not in self._leases or self._leases[slot].spare]
        if obey_queue and 0 < len(free) <= self._line.ahead_of(call):
            return Refused.BEHIND
        chosen = [slot for slot in free if not warm or slot not in self._leases]
        if not chosen:
            return Refused.TAKEN
        self._line.leave(call)
        slot, token = chosen[0], next(self._tokens)
        self._leases[slot] = lease = Lease(slot, token, spare=warm, continues=slot in self._leases)
        return lease

    def release(self, lease: Lease) -> None:
        """As `LeaseStore` says."""
        if self._leases.get(lease.slot) is lease:
            del self._leases[lease.slot]

    async def wait(self, call: str, limit: int) -> int:
        """As `LeaseStore` says."""
        return self._line.wait(call, limit)

    async def leave(self, call: str) -> None:
        """As `LeaseStore` says."""
        self._line.leave(call)

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """There is nothing to renew."""
        yield


class WaitingLine:
    """Callers in the order in which they came, each with when they last asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_s: dict[str, float] = {}

    def wait(self, call: str, limit: int) -> int:
        """Get in line, or stay there; the place, from 1. Raises QueueFull."""
        self._forget()
        if call not in self._asked_s and len(self._asked_s) >= limit:
            raise QueueFull(f"{limit} callers are waiting")
        self._asked_s[call] = self._clock.now()
        return list(self._asked_s).index(call) + 1

    def leave(self, call: str) -> None:
        """Get out of the line."""
        self._asked_s.pop(call, None)

    def ahead_of(self, call: str) -> int:
        """How many callers are before this one, and still ask; all, if it isn't in line."""
        self._forget()
        since_s = self._clock.now() - PRESENT_S
        before = itertools.takewhile(lambda other: other != call, self._asked_s)
        return sum(self._asked_s[other] > since_s for other in before)

    def _forget(self) -> None:
        due_s = self._clock.now() - FORGOTTEN_S
        for call in [call for call, asked_s in self._asked_s.items() if asked_s <= due_s]:
            del self._asked_s[call]
