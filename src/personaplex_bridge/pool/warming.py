"""One free seat is kept warm: connected for the role that the next caller will most likely want."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from personaplex_bridge.errors import LeasesUnavailable
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool.leases import LeaseStore, Refused
from personaplex_bridge.pool.seats import Seat, best_first
from personaplex_bridge.pool.usual import UsualRole

WARM_MAX_AGE_S = 1800.0
"""A warm line older than this is renewed."""

SHARED_POLL_S = 2.0
"""Other bridges' slots become free without a word: how often one is looked for."""


class Warmer:
    """Looks after the spare seats: keeps one, gives the others back. `seats` are by slot."""

    def __init__(
        self,
        seats: Collection[Seat],
        leases: LeaseStore,
        usual: UsualRole,
        handshake_timeout_s: float,
        on_change: Callable[[], None],
    ) -> None:
        self._seats = {seat.slot: seat for seat in seats}
        self._leases = leases
        self._usual = usual
        self._handshake_timeout_s = handshake_timeout_s
        self._on_change = on_change
        self.taking: asyncio.Task[None] | None = None
        """Looks for a seat that nobody has."""

    def look(self, now_s: float) -> list[float]:
        """Do what is due; returns when to look again at the latest."""
        role = self._usual.role
        spare = [seat for seat in self._seats.values() if seat.is_spare]
        warm = self._keep_one(spare, role, now_s)
        # A seat whose connection is still closing is left alone until it is closed: it will call.
        idle = [seat for seat in spare if seat.connection is None]
        if role is not None and warm is None:
            warm = next((seat for seat in idle if seat.may_warm), None)
            if warm is not None:
                warm.connect(role, self._handshake_timeout_s)
        for seat in idle:
            if seat is not warm and seat.lease is not None:
                self._leases.release(seat.lease)
                seat.lease = None
        if role is None:
            return []
        if warm is not None and warm.connection is not None:
            return [warm.connection.began_s + WARM_MAX_AGE_S]
        if self.taking is None or self.taking.done():
            # Of its own: a store that is slow mustn't keep the pool from looking after seats.
            self.taking = asyncio.create_task(self._take(role), name="take-to-warm")
        return [now_s + SHARED_POLL_S] if self._leases.is_shared else []

    def _keep_one(self, spare: Collection[Seat], role: Role | None, now_s: float) -> Seat | None:
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

    async def _take(self, role: Role) -> None:
        """Take a seat that nobody has, if there is one, and begin its line."""
        good = [seat for seat in self._seats.values() if seat.may_warm]
        slots = [seat.slot for seat in best_first(good, role)]
        if not slots:
            return
        try:
            taken = await self._leases.take(slots, "", obey_queue=True, warm=True)
        except LeasesUnavailable:
            return
        if not isinstance(taken, Refused):
            seat = self._seats[taken.slot]
            seat.hold(taken, None)
            seat.connect(role, self._handshake_timeout_s)
            self._on_change()
