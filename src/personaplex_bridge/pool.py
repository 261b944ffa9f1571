"""Which model server takes which call.

One connection per model server, held from the first byte to the last: a server writes voice and
prompt into shared state when a connection *arrives*, so a second one, even one that only waits,
changes or breaks the call in progress (docs/protocol.md). A seat is the place of that one
connection. It is taken when the webhook comes, so that the model takes in its prompts while the
phone still connects, and while nobody needs it, it is kept warm: connected, handshake done.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum

from personaplex_bridge import logs
from personaplex_bridge.errors import ModelBusy
from personaplex_bridge.personaplex.client import PersonaPlexLine
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.values import ServerAddress

STREAM_TIMEOUT_S = 15.0
"""A seat taken for a webhook whose stream never comes is given back after so long."""

WARM_MAX_AGE_S = 1800.0
"""A warm line older than this is renewed."""

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 30.0
"""Between attempts to reach a server that is down, doubling."""

STOOD_S = 10.0
"""A line that stood for so long shows that the server works; attempts begin anew after it."""

REMEMBERED_CALLS = 20
USUAL_CALLS = 3
"""The role that most of the last 20 calls had is the one to keep warm, from 3 calls on."""

_log = logging.getLogger(logs.NAME)


class SeatState(StrEnum):
    """What a seat is good for right now."""

    WARM = "warm"
    """Ready for a call at once."""
    CONNECTING = "connecting"
    IDLE = "idle"
    """Free, without a connection."""
    DOWN = "down"
    """The last attempt to connect failed, or the connection died."""
    BUSY = "busy"


class _Seat:
    """The place of one connection."""

    def __init__(self) -> None:
        self.taken_for: str | None = None
        """The call that has it."""
        self.waits_until_s: float | None = None
        """When it is given back if the call's stream doesn't come; None once it has."""
        self.connection: PreparedLine | None = None
        self.is_down = False

    @property
    def state(self) -> SeatState:
        if self.taken_for is not None:
            return SeatState.BUSY
        if self.connection is not None and self.connection.is_open:
            return SeatState.WARM if self.connection.is_ready else SeatState.CONNECTING
        return SeatState.DOWN if self.is_down else SeatState.IDLE

    def suits(self, role: Role) -> bool:
        """Whether its connection, if it has one, is for this role."""
        connection = self.connection
        return connection is not None and connection.is_open and connection.role == role

    def price(self, role: Role) -> int:
        """How bad it would be to take this seat for a call in `role`: the lowest is the best."""
        if self.suits(role):
            return 0 if self.state is SeatState.WARM else 1
        return 2 if self.connection is None else 3


class ModelPool:
    """The lines to the model servers: `capacity` of each, 1 for NVIDIA's own server.

    `warm_role` is whom to keep a line warm for; None keeps none.
    """

    def __init__(
        self,
        servers: Sequence[ServerAddress],
        *,
        tls_verify: bool = True,
        handshake_timeout_s: float = 30.0,
        warm_role: Role | None = None,
    ) -> None:
        (address,) = servers
        self._server = address.url
        self._tls = tls_context(self._server, verify=tls_verify)
        self._handshake_timeout_s = handshake_timeout_s
        self._default_role = warm_role
        self._roles: deque[Role] = deque(maxlen=REMEMBERED_CALLS)
        self._seats = [_Seat() for _ in range(address.capacity or 1)]
        self._retry_at_s = 0.0
        self._retry_after_s = RETRY_FIRST_S
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more calls can be taken."""
        return sum(seat.taken_for is None for seat in self._seats)

    @property
    def is_taken(self) -> bool:
        """Whether any call has a line, or is to get one."""
        return any(seat.taken_for is not None for seat in self._seats)

    @property
    def states(self) -> Counter[SeatState]:
        """How many seats are in which state."""
        return Counter(seat.state for seat in self._seats)

    async def reserve(self, call: str, role: Role) -> None:
        """Take a seat for a call whose stream is to come, and begin to connect.

        Somebody trying the address, without a call, takes none.

        It is given back after `STREAM_TIMEOUT_S` unless `line` is asked for the same call. Whoever
        names a call that has its line already is another call.

        Raises:
            ModelBusy: all are taken.
        """
        if not call:
            if self.free == 0:
                raise ModelBusy("every line to the model server is taken")
            return
        seat = self._find(call, role)
        self._connect(seat, role)
        seat.waits_until_s = _now() + STREAM_TIMEOUT_S
        self._changed.set()

    @asynccontextmanager
    async def line(self, call: str, role: Role) -> AsyncIterator[PersonaPlexLine]:
        """A line to the model for one call, its handshake done; let go on exit.

        Raises:
            ModelBusy: all are taken; nothing was connected.
            ModelError: the server can't be reached, or doesn't shake hands in time.
        """
        seat = self._find(call, role)
        seat.waits_until_s = None
        self._roles.append(role)
        self._changed.set()
        try:
            yield await self._connect(seat, role).line()
        finally:
            # Free at once: the next connection waits until this one is closed.
            if seat.connection is not None:
                seat.connection.drop()
            seat.taken_for = None
            self._changed.set()

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Keep a line warm and give back unused seats, inside the block; close all after."""
        tending = asyncio.create_task(self._tend(), name="tend-pool")
        try:
            yield
        finally:
            tending.cancel()
            connections = [seat.connection for seat in self._seats if seat.connection]
            for connection in connections:
                connection.drop()
            await asyncio.wait({tending, *(connection.task for connection in connections)})

    def _find(self, call: str, role: Role) -> _Seat:
        """The seat that was reserved for the call, else the best of the free ones: now its own."""
        for seat in self._seats:
            if call and seat.taken_for == call and seat.waits_until_s is not None:
                return seat
        free = [seat for seat in self._seats if seat.taken_for is None]
        if not free:
            raise ModelBusy("every line to the model server is taken")
        best = min(free, key=lambda seat: seat.price(role))
        best.taken_for = call
        return best

    def _connect(self, seat: _Seat, role: Role) -> PreparedLine:
        """The seat's connection for `role`: the one it has, or a new one in its place."""
        before = seat.connection
        if before is not None and seat.suits(role):
            return before
        if before is not None:
            before.drop()
        connection = PreparedLine(
            self._server,
            role,
            self._tls,
            self._handshake_timeout_s,
            after=before.task if before is not None else None,
        )
        seat.connection = connection
        connection.on_change(self._changed.set)
        return connection

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
        """Give back, renew and warm what is due; returns when to look again at the latest."""
        for seat in self._seats:
            if seat.waits_until_s is not None and seat.waits_until_s <= now_s:
                _log.info("a call's stream never came: its line to the model is free again")
                seat.taken_for = seat.waits_until_s = None
            self._notice(seat, now_s)
        moments = [seat.waits_until_s for seat in self._seats if seat.waits_until_s is not None]
        moments += self._keep_warm(now_s)
        return min(moments, default=None)

    def _notice(self, seat: _Seat, now_s: float) -> None:
        """See whether the connection of a seat has failed, or works again."""
        connection = seat.connection
        if connection is None:
            return
        if connection.is_ready:
            if seat.is_down:
                _log.info("the model server answers again")
            seat.is_down = False
        elif connection.task.done():
            failure = connection.failure
            if failure is not None:
                if not seat.is_down:
                    _log.warning("the model server is down: %s", failure)
                seat.is_down = True
                if connection.ready_s is not None and now_s - connection.ready_s >= STOOD_S:
                    self._retry_after_s = RETRY_FIRST_S
                self._retry_at_s = now_s + self._retry_after_s
                self._retry_after_s = min(2 * self._retry_after_s, RETRY_MAX_S)
            seat.connection = None

    def _keep_warm(self, now_s: float) -> list[float]:
        """Have one free seat's line warm, for the right role; returns when to look again."""
        free = [seat for seat in self._seats if seat.taken_for is None]
        role = self._warm_role()
        warm = None
        for seat in free:
            if seat.connection is None or not seat.connection.is_open:
                continue
            age_s = now_s - seat.connection.began_s
            if warm is None and role is not None and seat.suits(role) and age_s < WARM_MAX_AGE_S:
                warm = seat
            else:
                seat.connection.drop()
        # A seat whose connection is still closing is left alone until it is closed: it will call.
        free = [seat for seat in free if seat is warm or seat.connection is None]
        if role is None or not free:
            return []
        if warm is not None and warm.connection is not None:
            return [warm.connection.began_s + WARM_MAX_AGE_S]
        if now_s < self._retry_at_s:
            return [self._retry_at_s]
        self._connect(free[0], role)
        return []

    def _warm_role(self) -> Role | None:
        """The role of most of the last calls; the default, if none had more."""
        if self._default_role is None or not self._roles:
            return self._default_role
        counts = Counter(self._roles)
        role, calls = counts.most_common(1)[0]
        usual = calls >= USUAL_CALLS and calls > counts[self._default_role]
        return role if usual else self._default_role


def tls_context(server: str, *, verify: bool) -> ssl.SSLContext | None:
    """Certificate checks as usual, or none for a server with a self-signed one."""
    if not server.startswith("wss:"):
        return None
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _now() -> float:
    return asyncio.get_running_loop().time()
