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
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from personaplex_bridge import logs
from personaplex_bridge.errors import LeaseLost, LeasesUnavailable, ModelBusy, ModelError
from personaplex_bridge.errors import ModelUnavailable as AllDown
from personaplex_bridge.personaplex.client import PersonaPlexLine
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool.health import Circuit, Health
from personaplex_bridge.pool.leases import Lease, LeaseStore, MemoryLeases, Refused, Slot
from personaplex_bridge.pool.seats import Seat, SeatState, Server
from personaplex_bridge.pool.usual import UsualRole
from personaplex_bridge.values import ServerAddress

STREAM_TIMEOUT_S = 15.0
"""A seat taken for a webhook whose stream never comes is given back after so long."""

WARM_MAX_AGE_S = 1800.0
"""A warm line older than this is renewed."""

STOOD_S = 10.0
"""A line that stood for so long shows that the server works; attempts begin anew after it."""

COMING_S, COMING_POLL_S = 4.0, 0.3
"""How long, and how often, a caller waits for a spare slot that another bridge is giving up. The
caller hears the phone ring meanwhile: Twilio gives a webhook 15 s.
"""

SHARED_POLL_S = 2.0
"""Other bridges' slots become free without a word: how often one is looked for to be kept warm."""

_log = logging.getLogger(logs.NAME)


class ModelPool:
    """The lines to the model servers: `capacity` of each, 1 for NVIDIA's own server.

    `leases` says which are ours; without it, all are. `warm_role` is whom to keep a line warm
    for; None keeps none. `queue_limit` callers may wait in line.
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
        dice: random.Random | None = None,
    ) -> None:
        dice = dice or random.Random()  # noqa: S311 - spreads attempts in time
        self._servers = [
            Server(
                address.url,
                address.capacity or 1,
                tls_context(address.url, verify=tls_verify),
                Health(f"model server {number}", dice),
            )
            for number, address in enumerate(servers, start=1)
        ]
        slots = [
            (server, Slot(server.url, number))
            for server in self._servers
            for number in range(server.capacity)
        ]
        self._seats = {slot: Seat(server, slot) for server, slot in slots}
        self._leases: LeaseStore = leases or MemoryLeases()
        self._handshake_timeout_s = handshake_timeout_s
        self._queue_limit = queue_limit
        self._usual = UsualRole(warm_role)
        self._changed = asyncio.Event()

    @property
    def capacity(self) -> int:
        """How many calls all servers take together."""
        return len(self._seats)

    @property
    def free(self) -> int:
        """How many more calls can be taken, as far as is known here."""
        return sum(self._may_be_free(seat) for seat in self._seats.values())

    @property
    def is_taken(self) -> bool:
        """Whether any call of this bridge has a line, or is to get one."""
        return any(seat.taken_for is not None for seat in self._seats.values())

    @property
    def states(self) -> Counter[SeatState]:
        """How many seats are in which state."""
        return Counter(self._state_of(seat) for seat in self._seats.values())

    async def wait(self, call: str) -> int:
        """Get in line for a seat, or stay there; the caller's place, from 1.

        Who doesn't ask again for 45 s is forgotten; `reserve` gives seats in order.

        Raises:
            QueueFull: as many wait as may.
            LeasesUnavailable: the store of leases can't be reached.
        """
        return await self._leases.wait(call, self._queue_limit)

    async def leave(self, call: str) -> None:
        """Get out of the line, and give back what is reserved: the caller hung up, or waits no
        longer.
        """
        seat = self._reserved(call)
        if seat is not None:
            self._vacate(seat)
        with contextlib.suppress(LeasesUnavailable):  # is forgotten in time
            await self._leases.leave(call)

    async def reserve(self, call: str, role: Role) -> None:
        """Take a seat for a call whose stream is to come, and begin to connect.

        Somebody trying the address, without a call, takes none.

        It is given back after `STREAM_TIMEOUT_S` unless `line` is asked for the same call. Whoever
        names a call that has its line already is another call.

        Raises:
            ModelBusy: all are taken, or others are ahead in line.
            ModelUnavailable: every server is down, or the store of leases can't be reached.
        """
        if not call:
            self._refuse_if_full()
            return
        seat = self._reserved(call) or await self._take(call, role)
        self._connection(seat, role)
        seat.waits_until_s = _now() + STREAM_TIMEOUT_S
        self._changed.set()

    @asynccontextmanager
    async def line(self, call: str, role: Role) -> AsyncIterator[PersonaPlexLine]:
        """A line to the model for one call, its handshake done; let go on exit.

        It is the one that was reserved for the call, else the best there is, whoever waits: a
        call in progress whose model failed asks again, and gets another server if there is one.

        Raises:
            ModelBusy: all are taken; nothing was connected.
            ModelError: the server can't be reached, or doesn't shake hands in time.
        """
        seat = self._reserved(call) or await self._take(call, role, in_progress=True)
        seat.waits_until_s = None
        self._usual.note(role)
        self._changed.set()
        connection = self._connection(seat, role)
        try:
            yield await connection.line()
        except BaseException as error:
            self._learn(seat, connection, error)
            raise
        finally:
            connection.drop()
            self._vacate(seat)

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Keep a line warm and give back unused seats, inside the block; close all after."""
        async with self._leases.tended():
            tending = asyncio.create_task(self._tend(), name="tend-pool")
            try:
                yield
            finally:
                tending.cancel()
                open_ = [seat.connection for seat in self._seats.values() if seat.connection]
                for connection in open_:
                    connection.drop()
                await asyncio.wait({tending, *(connection.task for connection in open_)})

    # Taking

    def _reserved(self, call: str) -> Seat | None:
        """The seat that was reserved for the call."""
        for seat in self._seats.values():
            if call and seat.taken_for == call and seat.waits_until_s is not None:
                return seat
        return None

    async def _take(self, call: str, role: Role, *, in_progress: bool = False) -> Seat:
        """The best seat there is: now the call's own."""
        give_up_s = _now() + COMING_S
        while True:
            slots = [seat.slot for seat in self._candidates(role, in_progress=in_progress)]
            taken = await self._leases.take(slots, call, obey_queue=not in_progress, warm=False)
            if isinstance(taken, Lease):
                seat = self._hold(taken)
                seat.taken_for = call
                return seat
            if taken is not Refused.COMING or _now() >= give_up_s:
                raise ModelBusy(_WHY_BUSY[taken])
            await asyncio.sleep(COMING_POLL_S)

    def _candidates(self, role: Role, *, in_progress: bool) -> list[Seat]:
        """Seats a call may have, the best first. Raises ModelUnavailable if all servers are down.

        A call in progress may also try a server that is known to be down: it has nothing to lose.
        """
        seats = [seat for seat in self._seats.values() if in_progress or self._is_up(seat)]
        if not seats:
            raise AllDown("every model server is down")
        return sorted(seats, key=lambda seat: self._price(seat, role))

    def _price(self, seat: Seat, role: Role) -> tuple[int, int, int]:
        """First a server that works, then a line that is ready, then the one with fewer calls."""
        busy = sum(
            other.taken_for is not None
            for other in self._seats.values()
            if other.server is seat.server
        )
        return seat.server.health.rank, seat.price(role), busy

    def _hold(self, lease: Lease) -> Seat:
        """The seat of a lease that was just given: ours."""
        seat = self._seats[lease.slot]
        if not lease.continues and seat.connection is not None:
            seat.connection.fail(LeaseLost("the lease of the model server was lost"))
        seat.lease = lease
        lease.on_change = self._changed.set
        return seat

    def _connection(self, seat: Seat, role: Role) -> PreparedLine:
        """The seat's connection for `role`: the one it has, or a new one in its place."""
        if seat.connection is not None and seat.suits(role):
            return seat.connection
        connection = seat.connect(role, self._handshake_timeout_s)
        connection.on_change(self._changed.set)
        return connection

    def _vacate(self, seat: Seat) -> None:
        """No call has it any more. Free for the next at once: its connection waits until this one
        is closed.
        """
        seat.taken_for = seat.waits_until_s = None
        if seat.lease is not None:
            seat.lease.spare = True
        self._changed.set()

    # Looking after

    async def _tend(self) -> None:
        while True:
            self._changed.clear()
            look_again_s = self._look_after_seats(_now())
            look_again_s += await self._keep_warm(_now())
            try:
                async with asyncio.timeout_at(min(look_again_s, default=None)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _look_after_seats(self, now_s: float) -> list[float]:
        """Give back what is due; returns when to look again at the latest."""
        moments = []
        for seat in self._seats.values():
            if seat.waits_until_s is not None and seat.waits_until_s <= now_s:
                _log.info("a call's stream never came: its line to the model is free again")
                self._vacate(seat)
            if seat.waits_until_s is not None:
                moments.append(seat.waits_until_s)
            self._notice(seat)
        for server in self._servers:
            if server.health.circuit is Circuit.OPEN:
                if now_s >= server.health.retry_at_s:
                    server.health.alive()
                else:
                    moments.append(server.health.retry_at_s)
        return moments

    def _notice(self, seat: Seat) -> None:
        """See whether the connection of a seat has failed, or works again."""
        if seat.lease is not None and seat.lease.is_lost:
            seat.lease = None
            if seat.connection is not None:
                seat.connection.fail(LeaseLost("the lease of the model server was lost"))
        connection = seat.connection
        if connection is None:
            return
        if connection.is_ready:
            seat.server.health.shook_hands()
        elif connection.task.done():
            if connection.failure is not None:
                self._learn(seat, connection, connection.failure)
            elif connection.ready_s is not None:
                seat.server.health.stood()
            seat.connection = None

    def _learn(self, seat: Seat, connection: PreparedLine, error: BaseException) -> None:
        """What the end of a connection, or of what was done with it, says of its server."""
        failure = _failure_in(error)
        if failure is None or seat.told is connection:
            return
        seat.told, now_s = connection, _now()
        if connection.ready_s is not None and now_s - connection.ready_s >= STOOD_S:
            seat.server.health.stood()
        seat.server.health.failed(failure, now_s)
        self._changed.set()

    # Keeping warm

    async def _keep_warm(self, now_s: float) -> list[float]:
        """Have one free seat's line warm, for the right role; returns when to look again."""
        role = self._usual.role
        spare = [seat for seat in self._seats.values() if seat.lease and seat.lease.spare]
        warm = self._keep_one(spare, role, now_s)
        # A seat whose connection is still closing is left alone until it is closed: it will call.
        idle = [seat for seat in spare if seat.connection is None]
        if role is not None and warm is None:
            warm = next((seat for seat in idle if self._may_warm(seat, now_s)), None)
            if warm is not None:
                self._connection(warm, role)
        for seat in idle:
            if seat is not warm and seat.lease is not None:
                self._leases.release(seat.lease)
                seat.lease = None
        if role is None:
            return []
        if warm is None:
            warm = await self._take_to_warm(role, now_s)
        if warm is not None and warm.connection is not None:
            return [warm.connection.began_s + WARM_MAX_AGE_S]
        return self._when_to_warm(now_s)

    def _keep_one(self, spare: Iterable[Seat], role: Role | None, now_s: float) -> Seat | None:
        """The seat whose line is kept; all others are dropped."""
        kept = None
        for seat in spare:
            if seat.connection is None or not seat.connection.is_open:
                continue
            age_s = now_s - seat.connection.began_s
            good = role is not None and seat.suits(role) and age_s < WARM_MAX_AGE_S
            if kept is None and good and not (seat.lease and seat.lease.wanted):
                kept = seat
            else:
                seat.connection.drop()
        return kept

    async def _take_to_warm(self, role: Role, now_s: float) -> Seat | None:
        """A seat that nobody has, if there is one; its line begins."""
        seats = [seat for seat in self._seats.values() if self._may_warm(seat, now_s)]
        slots = [seat.slot for seat in sorted(seats, key=lambda seat: self._price(seat, role))]
        try:
            taken = await self._leases.take(slots, "", obey_queue=True, warm=True)
        except LeasesUnavailable:
            return None
        if isinstance(taken, Refused):
            return None
        seat = self._hold(taken)
        self._connection(seat, role)
        return seat

    def _may_warm(self, seat: Seat, now_s: float) -> bool:
        """Whether a line may be begun there, when no call needs it."""
        wanted = seat.lease is not None and seat.lease.wanted
        return not wanted and self._is_up(seat) and now_s >= seat.server.health.retry_at_s

    def _when_to_warm(self, now_s: float) -> list[float]:
        """When a seat for a warm line may be there, if nothing changes before."""
        retries = [server.health.retry_at_s for server in self._servers]
        moments = [retry_s for retry_s in retries if retry_s > now_s]
        return [*moments, now_s + SHARED_POLL_S] if self._leases.is_shared else moments

    # Looking at

    def _is_up(self, seat: Seat) -> bool:
        return seat.server.health.circuit is not Circuit.OPEN

    def _may_be_free(self, seat: Seat) -> bool:
        elsewhere = seat.slot in self._leases.elsewhere
        return seat.taken_for is None and not elsewhere and self._is_up(seat)

    def _state_of(self, seat: Seat) -> SeatState:
        elsewhere = seat.lease is None and seat.slot in self._leases.elsewhere
        return SeatState.ELSEWHERE if elsewhere else seat.state

    def _refuse_if_full(self) -> None:
        if not any(self._is_up(seat) for seat in self._seats.values()):
            raise AllDown("every model server is down")
        if self.free == 0:
            raise ModelBusy(_WHY_BUSY[Refused.TAKEN])


_WHY_BUSY = {
    Refused.TAKEN: "every line to the model servers is taken",
    Refused.COMING: "every line to the model servers is taken",
    Refused.BEHIND: "others are ahead in line",
}


def tls_context(server: str, *, verify: bool) -> ssl.SSLContext | None:
    """Certificate checks as usual, or none for a server with a self-signed one."""
    if not server.startswith("wss:"):
        return None
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _failure_in(error: BaseException) -> ModelError | None:
    """What the server is to blame for in an error, if anything. The first of a group counts: the
    others are its consequences.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    blamed = isinstance(error, ModelError) and not isinstance(error, LeaseLost | ModelBusy)
    return error if isinstance(error, ModelError) and blamed else None


def _now() -> float:
    return asyncio.get_running_loop().time()
