"""A seat: what the pool knows of one slot, the place of one connection on a model server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum

from personaplex_bridge.errors import LeaseLost
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool.health import Health
from personaplex_bridge.pool.leases import Lease, Slot


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
    """Another bridge has it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A model server as the pool knows it."""

    url: str
    capacity: int
    tls: ssl.SSLContext | None
    health: Health


class Seat:
    """The place of one connection."""

    def __init__(self, server: Server, slot: Slot) -> None:
        self.server = server
        self.slot = slot
        self.lease: Lease | None = None
        self.taken_for: str | None = None
        """The call that has it."""
        self.waits_until_s: float | None = None
        """When it is given back if the call's stream doesn't come; None once it has."""
        self.connection: PreparedLine | None = None
        self.told: PreparedLine | None = None
        """The connection whose failure the server's health knows of."""

    @property
    def state(self) -> SeatState:
        """What it is good for; whether it is elsewhere only the store of leases knows."""
        if self.taken_for is not None:
            return SeatState.BUSY
        if self.connection is not None and self.connection.is_open:
            return SeatState.WARM if self.connection.is_ready else SeatState.CONNECTING
        return SeatState.DOWN if self.server.health.is_down else SeatState.IDLE

    def suits(self, role: Role) -> bool:
        """Whether its connection, if it has one, is for this role."""
        connection = self.connection
        return connection is not None and connection.is_open and connection.role == role

    def price(self, role: Role) -> int:
        """How bad it would be to take this seat for a call in `role`: the lowest is the best."""
        if self.suits(role):
            return 0 if self.state is SeatState.WARM else 1
        return 2 if self.connection is None else 3

    def check(self) -> None:
        """Raises LeaseLost unless the slot is ours."""
        if self.lease is None:
            raise LeaseLost("the lease of the model server was lost")
        self.lease.check()

    def connect(self, role: Role, handshake_timeout_s: float) -> PreparedLine:
        """A new connection for `role`, which begins when the one there is, if any, is closed."""
        before = self.connection
        if before is not None:
            before.drop()
        self.connection = PreparedLine(
            self.server.url,
            role,
            self.server.tls,
            handshake_timeout_s,
            after=before.task if before is not None else None,
            check=self.check,
        )
        return self.connection
