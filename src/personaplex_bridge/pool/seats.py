"""A seat: what the pool knows of one slot, the place of one connection on a model server."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

from personaplex_bridge.errors import LeaseLost, ModelBusy, ModelError
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool.health import Circuit
from personaplex_bridge.pool.leases import Lease, Slot
from personaplex_bridge.pool.servers import Server

STOOD_S = 10.0
"""A line that a call had for so long shows that the server works; attempts begin anew after it."""


class SeatState(StrEnum):
    """What a seat is good for right now."""

    WARM = "warm"
    """Ready for a call at once."""
    CONNECTING = "connecting"
    IDLE = "idle"
    """Free, without a connection."""
    DOWN = "down"
    """The last attempt to connect to its server failed, or its connection died."""
    BUSY = "busy"
    ELSEWHERE = "elsewhere"
    """Another bridge has it for a call."""


@dataclass(slots=True)
class _Known:
    """What was seen of a connection. Its server's health is told of each thing once."""

    shook_hands: bool = False
    given_s: float | None = None
    """When a call was given it, ready; until then it shows nothing of how calls fare."""
    failed: bool = False


class Seat:
    """The place of one connection. It is ours while we hold its lease.

    `on_change` is called when its connection or its lease changes.
    """

    def __init__(self, server: Server, slot: Slot, on_change: Callable[[], None]) -> None:
        self.server = server
        self.slot = slot
        self.lease: Lease | None = None
        self.taken_for: str | None = None
        """The call that has it."""
        self.waits_until_s: float | None = None
        """When it is given back if the call's stream doesn't come; None once it has."""
        self.kept_until_s: float | None = None
        """When it is given back if the call, whose line failed, doesn't ask again; None while it
        has a line, or is to get one.
        """
        self.connection: PreparedLine | None = None
        self._on_change = on_change
        # Weakly: with its error, a connection holds on to all of the call that it failed.
        self._known: weakref.WeakKeyDictionary[PreparedLine, _Known] = weakref.WeakKeyDictionary()

    @property
    def state(self) -> SeatState:
        """What it is good for; whether it is elsewhere only the store of leases knows."""
        if self.taken_for is not None:
            return SeatState.BUSY
        if self.connection is not None and self.connection.is_open:
            return SeatState.WARM if self.connection.is_ready else SeatState.CONNECTING
        return SeatState.DOWN if self.server.health.is_down else SeatState.IDLE

    @property
    def is_spare(self) -> bool:
        """Whether it is ours, and no call has it."""
        return self.lease is not None and self.lease.spare

    @property
    def may_connect(self) -> bool:
        """Whether it is good for a call: its server is, or its line is what shows if that is."""
        is_trial = self.connection is not None and self.connection is self.server.trial
        return self.server.may_connect or is_trial

    @property
    def may_warm(self) -> bool:
        """Whether a line may be begun here that no call needs."""
        return self.server.may_warm and not (self.lease is not None and self.lease.wanted)

    def suits(self, role: Role) -> bool:
        """Whether its connection, if it has one, is for this role."""
        connection = self.connection
        return connection is not None and connection.is_open and connection.role == role

    def price(self, role: Role) -> int:
        """How bad it would be to take this seat for a call in `role`: the lowest is the best."""
        if self.suits(role):
            return 0 if self.state is SeatState.WARM else 1
        return 2 if self.connection is None else 3

    def hold(self, lease: Lease, call: str | None) -> None:
        """Have the lease of its slot, for a call or as a spare.

        Another may have had the slot since we last did; then our old connection is broken off.
        """
        if not lease.continues:
            self._break_off()
        self._forget_call()
        self.lease, self.taken_for = lease, call
        lease.on_change = self._lease_changed

    def keep(self, until_s: float) -> None:
        """Let nobody else have it, so that its call may try again: its line has failed."""
        self.kept_until_s = until_s
        self._on_change()

    def vacate(self) -> None:
        """No call has it any more. It is free for the next at once: that one's connection waits
        until this one is closed.
        """
        self._forget_call()
        if self.lease is not None:
            self.lease.spare = True
        self._on_change()

    def connect(self, role: Role, handshake_timeout_s: float) -> PreparedLine:
        """A connection for `role`: the one it has, or a new one, after that one is closed."""
        before = self.connection
        if before is not None and self.suits(role):
            return before
        if before is not None:
            before.drop()
        self.connection = PreparedLine(
            self.server.url,
            role,
            self.server.tls,
            handshake_timeout_s,
            after=before.task if before is not None else None,
            check=self._check,
            token=self.server.token,
        )
        self._known[self.connection] = _Known()
        self.connection.on_change(self._on_change)
        if self.server.health.circuit is Circuit.HALF_OPEN:
            self.server.trial = self.connection
        return self.connection

    def give(self, connection: PreparedLine) -> None:
        """A call has its connection, ready, from now on."""
        self._known[connection].given_s = asyncio.get_running_loop().time()

    def notice(self) -> None:
        """See whether its connection has failed, has ended, or works."""
        connection = self.connection
        if connection is None:
            return
        known = self._known[connection]
        if connection.is_ready and not known.shook_hands:
            known.shook_hands = True
            self.server.health.shook_hands()
        elif connection.task.done():
            if connection.failure is not None:
                self.learn(connection, connection.failure)
            elif known.given_s is not None and not known.failed:
                self.server.health.stood()
            self.connection = None

    def learn(self, connection: PreparedLine, error: BaseException) -> None:
        """What the end of a connection, or of what was done with it, says of its server."""
        failure, known = failure_in(error), self._known[connection]
        if failure is None or known.failed:
            return
        known.failed = True
        health, now_s = self.server.health, asyncio.get_running_loop().time()
        since_s = known.given_s if known.given_s is not None else connection.ready_s
        has_stood = since_s is not None and now_s - since_s >= STOOD_S
        if has_stood and known.given_s is None:
            health.failed_idle(failure, now_s)
        else:
            if has_stood:
                health.stood()
            health.failed(failure, now_s, in_call=known.given_s is not None)
        self._on_change()

    def _check(self) -> None:
        """Raises LeaseLost unless the slot is ours."""
        if self.lease is None:
            raise LeaseLost(_LOST)
        self.lease.check()

    def _lease_changed(self, lease: Lease) -> None:
        if lease is self.lease and lease.is_lost:
            self._forget_call()
            self.lease = None
            self._break_off()
        self._on_change()

    def _forget_call(self) -> None:
        self.taken_for = self.waits_until_s = self.kept_until_s = None

    def _break_off(self) -> None:
        if self.connection is not None:
            self.connection.fail(LeaseLost(_LOST))


_LOST = "the lease of the model server was lost"


def best_first(seats: Collection[Seat], role: Role) -> list[Seat]:
    """First a server that works, then a line that is ready, then the one with fewer calls."""
    calls = Counter(seat.server for seat in seats if seat.taken_for is not None)

    def badness(seat: Seat) -> tuple[int, int, int]:
        return seat.server.health.rank, seat.price(role), calls[seat.server]

    return sorted(seats, key=badness)


def failure_in(error: BaseException) -> ModelError | None:
    """What the server is to blame for in an error, if anything. The first of a group counts: the
    others are its consequences.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, LeaseLost | ModelBusy) or not isinstance(error, ModelError):
        return None
    return error
