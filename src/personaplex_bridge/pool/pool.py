"""Which model server takes which call.

One connection per model server (per slot of one that holds several), held from the first byte to
the last: a server writes voice and prompt into shared state when a connection *arrives*, so a
second one, even one that only waits, changes or breaks the call in progress (docs/protocol.md).
A seat is the place of that one connection, and is ours while we hold its lease. It is taken when
the webhook comes, so that the model takes in its prompts while the phone still connects, and
one that nobody needs is kept warm: connected, handshake done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from personaplex_bridge import logs
from personaplex_bridge.errors import LeasesUnavailable, ModelBusy, ModelUnavailable
from personaplex_bridge.personaplex.client import PersonaPlexLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool.health import Circuit, Health
from personaplex_bridge.pool.leases import Lease, LeaseStore, MemoryLeases, Refused, Slot
from personaplex_bridge.pool.seats import Seat, SeatState, best_first, failure_in
from personaplex_bridge.pool.servers import Server, tls_context
from personaplex_bridge.pool.usual import UsualRole
from personaplex_bridge.pool.warming import Warmer
from personaplex_bridge.values import ServerAddress

STREAM_TIMEOUT_S = 15.0
"""A seat taken for a webhook whose stream never comes is given back after so long."""

KEPT_S = 2.0
"""The seat of a call whose line failed is nobody else's for so long. The call asks again within
`recovery.MAX_PAUSE_S`, or never.
"""

COMING_S, COMING_POLL_S = 4.0, 0.3
"""How long, and how often, a caller waits for a spare slot that another bridge is giving up. The
caller hears the phone ring meanwhile: Twilio gives a webhook 15 s.
"""

_WHY_BUSY = {
    Refused.TAKEN: "every line to the model servers is taken",
    Refused.COMING: "every line to the model servers is taken",
    Refused.BEHIND: "others are ahead in line",
    Refused.STARTING: "the store of leases has just started, and waits for those who hold some",
}

_log = logging.getLogger(logs.NAME)


@dataclass(frozen=True, slots=True)
class ServerReport:
    """How a model server stands, without its address: who knows that can use the server."""

    circuit: str
    busy: int
    """Calls it has, of whichever bridge."""
    capacity: int
    last_failure: str | None
    """The class of the last error."""


class ModelPool:
    """The lines to the model servers: `capacity` of each, 1 for NVIDIA's own server.

    `leases` says which are ours; without it, all are. `warm_role` is whom to keep a line warm
    for; None keeps none. `handshake_timeout_s` is for a prompt of usual length. `queue_limit`
    callers may wait in line. `token` is for gates in front of the servers. `dice` spreads attempts
    in time.
    """

    def __init__(
        self,
        servers: Sequence[ServerAddress],
        leases: LeaseStore | None = None,
        *,
        tls_verify: bool = True,
        handshake_timeout_s: float = 30.0,
        warm_role: Role | None = None,
        queue_limit: int = 100,
        token: str | None = None,
        dice: random.Random | None = None,
    ) -> None:
        dice = dice or random.Random()  # noqa: S311 - nobody gains by guessing it
        self._changed = asyncio.Event()
        self._servers = [
            Server(
                address.url,
                address.capacity or 1,
                tls_context(address.url, verify=tls_verify),
                Health(f"model server {number}", dice),
                token,
            )
            for number, address in enumerate(servers, start=1)
        ]
        seats = [
            Seat(server, Slot(server.url, number), self._changed.set)
            for server in self._servers
            for number in range(server.capacity)
        ]
        self._seats = {seat.slot: seat for seat in seats}
        self._leases: LeaseStore = leases if leases is not None else MemoryLeases()
        self._handshake_timeout_s = handshake_timeout_s
        self._queue_limit = queue_limit
        self._usual = UsualRole(warm_role)
        self._warmer = Warmer(
            seats, self._leases, self._usual, handshake_timeout_s, self._changed.set
        )

    @property
    def free(self) -> int:
        """How many more calls can be taken, as far as is known here."""
        return sum(
            seat.server.health.circuit is not Circuit.OPEN and not self._has_call(seat)
            for seat in self._seats.values()
        )

    @property
    def is_taken(self) -> bool:
        """Whether any call of this bridge has a line, or is to get one. One that may ask again is
        known by its stream.
        """
        seats = self._seats.values()
        return any(seat.taken_for is not None and seat.kept_until_s is None for seat in seats)

    @property
    def awaited(self) -> frozenset[str]:
        """The calls that have a seat, and whose streams are still to come."""
        seats = [seat for seat in self._seats.values() if seat.waits_until_s is not None]
        return frozenset(seat.taken_for for seat in seats if seat.taken_for is not None)

    @property
    def states(self) -> Counter[SeatState]:
        """How many seats are in which state."""
        return Counter(self._state_of(seat) for seat in self._seats.values())

    @property
    def servers(self) -> list[ServerReport]:
        """How each server stands, in the order in which they were given."""
        calls = Counter(seat.server for seat in self._seats.values() if self._has_call(seat))
        return [
            ServerReport(
                str(server.health.circuit),
                calls[server],
                server.capacity,
                server.health.last_failure,
            )
            for server in self._servers
        ]

    def server_of(self, call: str) -> int | None:
        """The place in PERSONAPLEX_URL, from 1, of the server that a call of this bridge has."""
        for seat in self._seats.values():
            if call and seat.taken_for == call:
                return self._servers.index(seat.server) + 1
        return None

    @property
    def leases_reachable(self) -> bool:
        """Whether the store of leases answered when it was last asked; else no call begins."""
        return self._leases.is_reachable

    async def wait(self, call: str) -> int:
        """Get in line for a seat, or stay there; the caller's place, from 1.

        Who doesn't ask again for 45 s is forgotten; `reserve` gives seats in order.

        Raises:
            QueueFull: as many wait as may.
            LeasesUnavailable: the store of leases can't be reached.
        """
        return await self._leases.wait(call, self._queue_limit)

    async def leave(self, call: str) -> None:
        """Get out of the line, and give back what is reserved or kept: the caller hung up, or
        waits no longer.
        """
        seat = self._reserved(call) or self._recall(call)
        if seat is not None:
            seat.vacate()
        with contextlib.suppress(LeasesUnavailable):  # is forgotten in time
            await self._leases.leave(call)

    async def reserve(self, call: str, role: Role, *, patient: bool = True) -> None:
        """Take a seat for a call whose stream is to come, and begin to connect.

        Somebody trying the address, without a call, takes none. Who isn't `patient` doesn't wait
        for a spare slot that another bridge is giving up.

        It is given back after `STREAM_TIMEOUT_S` unless `line` is asked for the same call. Whoever
        names a call that has its line already is another call.

        Raises:
            ModelBusy: all are taken, or others are ahead in line.
            ModelUnavailable: every server is down, or the store of leases can't be reached.
        """
        if not call:
            self._refuse_if_full()
            return
        wait_s = COMING_S if patient else 0.0
        seat = self._reserved(call) or self._recall(call)
        if seat is None:
            taken = await self._take(call, role, wait_s, self._choices())
            seat = self._reserved(call) or taken
            if seat is not taken:  # the webhook came twice at once
                taken.vacate()
            else:  # not in `line`: the role of a call that goes on may tell what was said in it
                self._usual.note(role)
        seat.connect(role, self._handshake_timeout_s)
        seat.waits_until_s = _now() + STREAM_TIMEOUT_S
        self._changed.set()

    @asynccontextmanager
    async def line(self, call: str, role: Role) -> AsyncIterator[PersonaPlexLine]:
        """A line to the model for one call, its handshake done; let go on exit.

        It is the one that was reserved for the call, else the best there is, whoever waits: a
        call in progress whose model failed asks again, and gets another server if there is a
        better one. Until then, or for `KEPT_S`, its seat is kept for it.

        Raises:
            ModelBusy: all are taken; nothing was connected.
            ModelError: the server can't be reached, or doesn't shake hands in time; or the store
                of leases can't be reached. LeaseLost, also later, if the lease was lost.
        """
        seat = self._reserved(call) or await self._take_in_progress(call, role)
        seat.waits_until_s = None
        self._changed.set()
        lease, connection = seat.lease, seat.connect(role, self._handshake_timeout_s)
        has_failed = False
        try:
            ready = await connection.line()
            seat.give(connection)
            ready.server = self._servers.index(seat.server) + 1
            yield ready
        except BaseException as error:
            seat.learn(connection, error)
            has_failed = failure_in(error) is not None
            raise
        finally:
            connection.drop()
            if seat.lease is not lease:
                pass  # it was lost, and the seat may have another call
            elif has_failed and call:
                seat.keep(_now() + KEPT_S)
            else:
                seat.vacate()

    def retire(self) -> None:
        """No new calls come: keep no line warm any more, which others could use."""
        self._usual.retire()
        self._changed.set()

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Keep a line warm and give back unused seats, inside the block; close all after.

        Raises:
            LeasesUnavailable: the store of leases can't be reached to begin with.
        """
        async with self._leases.tended():
            tending = asyncio.create_task(self._tend(), name="tend-pool")
            try:
                yield
            finally:
                await self._close(tending)

    def _reserved(self, call: str) -> Seat | None:
        """The seat that was reserved for the call."""
        for seat in self._seats.values():
            if call and seat.taken_for == call and seat.waits_until_s is not None:
                return seat
        return None

    def _recall(self, call: str) -> Seat | None:
        """The seat that was kept for the call: from now on it is to get a line."""
        for seat in self._seats.values():
            if seat.taken_for == call and seat.kept_until_s is not None:
                seat.kept_until_s = None
                return seat
        return None

    async def _take_in_progress(self, call: str, role: Role) -> Seat:
        """The best seat there is; the one that was kept for the call, unless there is a better."""
        kept = self._recall(call)
        lease, seat = kept.lease if kept else None, None
        try:
            if kept is not None:
                seat = await self._take_better(call, role, kept)
            if seat is None and kept is not None and kept.lease is lease:
                seat = kept
            if seat is None:
                everyone = self._choices(in_progress=True)
                seat = await self._take(call, role, COMING_S, everyone, obey_queue=False)
            return seat
        finally:
            if kept is not None and kept is not seat and kept.lease is lease:
                kept.vacate()

    async def _take_better(self, call: str, role: Role, kept: Seat) -> Seat | None:
        """A seat on a server that fares better than that of `kept`, even if it has to wait until
        another bridge gives one up; else, if no server does, one that is good for other reasons.
        """
        ranked = best_first(self._seats.values(), role)
        before = ranked[: ranked.index(kept)]
        rank = kept.server.health.rank
        better = [seat for seat in before if seat.server.health.rank < rank]
        if not before:
            return None
        wait_s, choice = (COMING_S, better) if better else (0.0, before)
        try:
            return await self._take(call, role, wait_s, [choice], obey_queue=False)
        except (ModelBusy, LeasesUnavailable):
            return None

    async def _take(
        self,
        call: str,
        role: Role,
        wait_s: float,
        choices: Sequence[Sequence[Seat]],
        *,
        obey_queue: bool = True,
    ) -> Seat:
        """The best seat of the first of `choices` that has one: now the call's own."""
        give_up_s, refused = _now() + wait_s, Refused.TAKEN
        for seats in choices:
            while True:
                slots = [seat.slot for seat in best_first(seats, role)]
                taken = await self._leases.take(slots, call, obey_queue=obey_queue, warm=False)
                if isinstance(taken, Lease):
                    self._seats[taken.slot].hold(taken, call)
                    return self._seats[taken.slot]
                refused = taken
                if taken is not Refused.COMING or _now() >= give_up_s:
                    break
                await asyncio.sleep(COMING_POLL_S)
        raise ModelBusy(_WHY_BUSY[refused])

    def _choices(self, *, in_progress: bool = False) -> list[list[Seat]]:
        """Seats that a call may have: first those of servers that work, even if it has to wait
        until another bridge gives one up, then all.

        A call in progress may also try a server that is known to be down: it has nothing to lose.
        Raises ModelUnavailable if all are, for others.
        """
        seats = [seat for seat in self._seats.values() if in_progress or seat.may_connect]
        if not seats:
            raise ModelUnavailable("every model server is down")
        good = [seat for seat in seats if seat.server.health.rank == 0]
        return [good, seats] if 0 < len(good) < len(seats) else [seats]

    async def _tend(self) -> None:
        while True:
            self._changed.clear()
            look_again_s = self._look_after_seats(_now())
            try:
                async with asyncio.timeout_at(look_again_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _look_after_seats(self, now_s: float) -> float | None:
        """Give back, notice and warm what is due; returns when to look again at the latest."""
        for seat in self._seats.values():
            if seat.waits_until_s is not None and seat.waits_until_s <= now_s:
                _log.info("a call's stream never came: its line to the model is free again")
                seat.vacate()
            if seat.kept_until_s is not None and seat.kept_until_s <= now_s:
                seat.vacate()
            seat.notice()
        for server in self._servers:
            server.health.forgive(now_s)
        seats = self._seats.values()
        waits = [until_s for seat in seats for until_s in (seat.waits_until_s, seat.kept_until_s)]
        asked = [server.ask_if_due(now_s, self._look_again) for server in self._servers]
        moments = [*waits, *asked, *self._warmer.look(now_s)]
        return min((moment for moment in moments if moment is not None), default=None)

    def _look_again(self, _: object) -> None:
        self._changed.set()

    async def _close(self, tending: asyncio.Task[None]) -> None:
        """End every task and connection; their leases can be given back then."""
        tasks = [server.probe for server in self._servers] + [self._warmer.taking, tending]
        ending = {task for task in tasks if task is not None}
        for task in ending:
            task.cancel()
        connections = [seat.connection for seat in self._seats.values() if seat.connection]
        for connection in connections:
            connection.drop()
        await asyncio.wait({*ending, *(connection.task for connection in connections)})
        for seat in self._seats.values():
            if seat.lease is not None:
                self._leases.release(seat.lease)
                seat.lease = None

    def _has_call(self, seat: Seat) -> bool:
        """Whether a call has it, here or at another bridge."""
        return self._state_of(seat) in (SeatState.BUSY, SeatState.ELSEWHERE)

    def _state_of(self, seat: Seat) -> SeatState:
        elsewhere = seat.lease is None and seat.slot in self._leases.elsewhere
        return SeatState.ELSEWHERE if elsewhere else seat.state

    def _refuse_if_full(self) -> None:
        if all(server.health.circuit is Circuit.OPEN for server in self._servers):
            raise ModelUnavailable("every model server is down")
        if self.free == 0:
            raise ModelBusy(_WHY_BUSY[Refused.TAKEN])


def _now() -> float:
    return asyncio.get_running_loop().time()
