"""Leases in a Redis that several bridges share.

A lease stands in Redis for one TTL, and is renewed about five times in it. What counts for its
holder is its own deadline: the moment *before* the renewal was sent, plus the TTL, less a margin
in which the connection is broken off. Whoever dies, hangs, or loses Redis for longer has thus
stopped by the time that Redis gives the slot to another. The deadline is looked at before every
write to a model server, because a process that was stopped goes on without noticing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from personaplex_bridge import logs
from personaplex_bridge.errors import LeasesUnavailable, QueueFull
from personaplex_bridge.pool import redis_scripts
from personaplex_bridge.pool.leases import FORGOTTEN_S, PRESENT_S, Lease, Refused, Slot

PREFIX = "personaplex-bridge:"
"""Of every key."""

RENEWALS = 5
"""In each TTL, or more: a lease that is wanted is seen within `LOOK_S`."""

LOOK_S = 1.0

TIMEOUT_S = 2.0
"""For connecting to Redis, and for its answer; each is tried twice."""

STEP_TIMEOUTS = 1.5
"""As many of these may one step take in all."""

WATCH_S = 0.1
"""How often deadlines are looked at, for connections that nothing is sent to."""

MAX_CONNECTIONS = 16
GIVE_BACK_S = 2.0
"""How long giving everything back may take at the end."""

_REFUSED = {
    "taken": Refused.TAKEN,
    "behind": Refused.BEHIND,
    "coming": Refused.COMING,
    "starting": Refused.STARTING,
}

_log = logging.getLogger(logs.NAME)


def boot_time() -> float:
    """Seconds that go on while this machine sleeps, where there is such a clock."""
    # Linux's CLOCK_MONOTONIC stands still in suspend, its CLOCK_BOOTTIME doesn't; on macOS
    # CLOCK_MONOTONIC doesn't either, but time.monotonic() is another clock.
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def margin_s(ttl_s: float) -> float:
    """How long before a lease runs out in Redis its holder stops using it."""
    return 0.3 + ttl_s / 10


class RedisLeases:
    """As `LeaseStore` says, for the bridges that use the Redis at `url`. All need the same TTL.

    Use it `tended()`.
    """

    is_shared = True

    def __init__(self, url: str, ttl_s: float, now: Callable[[], float] = boot_time) -> None:
        self._now = now
        self._ttl_s = ttl_s
        self._period_s = min(LOOK_S, ttl_s / RENEWALS)
        self._owner = secrets.token_hex(8)
        self._held: dict[Slot, Lease] = {}
        self._elsewhere: frozenset[Slot] = frozenset()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_away = False
        self._is_urgent = asyncio.Event()
        """A lease was long in coming. It counts from when it was asked for: it may soon run out."""
        self._password = unquote(urlsplit(url).password or "")
        # Renewals have a connection of their own: they mustn't wait behind callers.
        self._ask = _Steps(url, MAX_CONNECTIONS, TIMEOUT_S)
        self._renew = _Steps(url, 1, min(TIMEOUT_S, ttl_s / 4))

    @property
    def elsewhere(self) -> Collection[Slot]:
        """Slots that calls of other bridges have, as of the last renewal."""
        return self._elsewhere

    @property
    def is_reachable(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return not self._is_away

    async def take(
        self, slots: Sequence[Slot], call: str, *, obey_queue: bool, warm: bool
    ) -> Lease | Refused:
        """As `LeaseStore` says. Cancelled, it gives back what it gets."""
        taking = self._begin(self._take(slots, call, obey_queue=obey_queue, warm=warm))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)
            raise

    def release(self, lease: Lease) -> None:
        """As `LeaseStore` says."""
        if self._held.get(lease.slot) is lease:
            del self._held[lease.slot]
        self._begin(self._release(lease))

    async def wait(self, call: str, limit: int) -> int:
        """As `LeaseStore` says."""
        place: int = await self._do(self._ask, redis_scripts.WAIT, call, limit)
        if place == 0:
            raise QueueFull(f"{limit} callers are waiting")
        return place

    async def leave(self, call: str) -> None:
        """As `LeaseStore` says."""
        await self._do(self._ask, redis_scripts.LEAVE, call)

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """As `LeaseStore` says.

        Raises:
            LeasesUnavailable: Redis can't be reached to begin with.
        """
        tending: list[asyncio.Task[None]] = []
        try:
            await self.look()
            tending += [self._begin(self._keep_renewing()), self._begin(self._watch())]
            yield
        finally:
            for task in tending:
                task.cancel()
            for lease in list(self._held.values()):
                self.release(lease)
            await self.close()

    async def look(self) -> None:
        """Ask Redis how things stand, and renew what is held.

        Raises:
            LeasesUnavailable: it can't be reached.
        """
        await self._renew_all()

    async def close(self) -> None:
        """End what is under way, and close the connections. After `tended` it is done already."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_BACK_S):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ask.close()
        await self._renew.close()

    async def _take(
        self, slots: Sequence[Slot], call: str, *, obey_queue: bool, warm: bool
    ) -> Lease | Refused:
        names = {_name(slot): slot for slot in slots}
        spare = [lease for lease in self._held.values() if lease.spare and not lease.is_lost]
        about_spare = [part for lease in spare for part in (_name(lease.slot), lease.token)]
        asked_s, nonce = self._now(), secrets.token_hex(8)
        how = (call, int(obey_queue), int(warm), nonce, len(spare))
        answer = await self._do(self._ask, redis_scripts.TAKE, *how, *about_spare, *names)
        if answer[0] != "lease":
            return _REFUSED[answer[0]]
        slot, token, continues = names[answer[1]], int(answer[2]), bool(int(answer[3]))
        lease = Lease(
            slot,
            token,
            spare=warm,
            continues=continues,
            deadline_s=self._deadline_s(asked_s),
            now=self._now,
        )
        self._held[slot] = lease
        if self._now() - asked_s > self._period_s:
            self._is_urgent.set()
        return lease

    def _give_back(self, taking: asyncio.Task[Lease | Refused]) -> None:
        """Nobody waits for the lease any more."""
        lease = None if taking.cancelled() or taking.exception() else taking.result()
        if isinstance(lease, Lease):
            self.release(lease)

    async def _release(self, lease: Lease) -> None:
        with suppress(LeasesUnavailable):  # it runs out by itself
            await self._do(self._ask, redis_scripts.RELEASE, _name(lease.slot), lease.token)

    # Renewing

    async def _keep_renewing(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._is_urgent.wait()
            self._is_urgent.clear()
            with suppress(LeasesUnavailable):
                await self._renew_all()

    async def _renew_all(self) -> None:
        leases = [lease for lease in self._held.values() if not lease.is_lost]
        about = [
            part for lease in leases for part in (_name(lease.slot), lease.token, int(lease.spare))
        ]
        asked_s = self._now()
        answers, elsewhere = await self._do(self._renew, redis_scripts.RENEW, len(leases), *about)
        self._elsewhere = frozenset(_slot(name) for name in elsewhere)
        for lease, answer in zip(leases, answers, strict=True):
            self._note(lease, answer, self._deadline_s(asked_s))

    def _note(self, lease: Lease, answer: str, deadline_s: float) -> None:
        """What Redis says of a lease. One that was replaced meanwhile no longer matters."""
        if answer == "lost" and self._held.get(lease.slot) is lease:
            self._lose(lease, "another bridge has it, or Redis has forgotten it")
        elif answer in ("renewed", "wanted") and not lease.is_lost:
            lease.deadline_s = max(lease.deadline_s, deadline_s)
            if answer == "wanted" and not lease.wanted:
                lease.wanted = True
                lease.on_change(lease)

    async def _watch(self) -> None:
        while True:
            for lease in list(self._held.values()):
                if lease.is_lost:
                    self._lose(lease, "it ran out")
            await asyncio.sleep(WATCH_S)

    def _lose(self, lease: Lease, why: str) -> None:
        _log.warning("lost the lease of a model server: %s", why)
        del self._held[lease.slot]
        lease.lose()

    def _deadline_s(self, asked_s: float) -> float:
        return asked_s + self._ttl_s - margin_s(self._ttl_s)

    # Asking Redis

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(work, name="leases")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _do(self, steps: _Steps, script: str, *arguments: str | int) -> Any:
        """Have Redis do a step.

        Raises:
            LeasesUnavailable: it can't be reached, or can't do it.
        """
        times = (round(seconds * 1000) for seconds in (self._ttl_s, FORGOTTEN_S, PRESENT_S))
        try:
            answer = await steps.do(script, self._owner, *times, *arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._is_gone(error)
            raise LeasesUnavailable("the Redis that holds the leases can't be reached") from None
        if self._is_away:
            _log.info("the Redis that holds the leases answers again")
            self._is_away = False
        return answer

    def _is_gone(self, error: Exception) -> None:
        """Tell it once, without the password."""
        if not self._is_away:
            why = f"{type(error).__name__}: {error}"[:200]
            if self._password:
                why = why.replace(self._password, "(hidden)")
            _log.warning("the Redis that holds the leases can't be used: %s", why)
        self._is_away = True


class _Steps:
    """A Redis, and the scripts it knows."""

    def __init__(self, url: str, connections: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s * STEP_TIMEOUTS
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(ConstantBackoff(0.05), 1),
            decode_responses=True,
        )
        self._redis = Redis.from_pool(pool)
        self._scripts: dict[str, Any] = {}

    async def do(self, script: str, *arguments: str | int) -> Any:
        """Run a script in Redis, in one step."""
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(script)
        keys = [PREFIX + key for key in redis_scripts.KEYS]
        async with asyncio.timeout(self._timeout_s):
            return await self._scripts[script](keys=keys, args=arguments)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _name(slot: Slot) -> str:
    return f"{slot.server}#{slot.number}"


def _slot(name: str) -> Slot:
    server, _, number = name.rpartition("#")
    return Slot(server, int(number))
