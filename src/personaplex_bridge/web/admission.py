"""Whether a call may come in: is there a model server for it, and does this bridge take calls?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from personaplex_bridge.errors import ModelBusy, ModelError, ModelUnavailable
from personaplex_bridge.observing import NOBODY, Several
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool import ModelPool

RESERVE_TIMEOUT_S = 10.0
"""Twilio waits 15 s for the answer."""


class Admission:
    """The door. `streams` tells the calls whose streams are in.

    A call counts from the moment a model server is reserved for it: its stream comes later, and
    must not find the bridge full then.
    """

    def __init__(
        self,
        pool: ModelPool,
        max_calls: int,
        streams: Callable[[], Collection[str]],
        observer: Several = NOBODY,
    ) -> None:
        self.pool = pool
        self.is_closed = False
        """While True, the bridge is being drained: no call comes in."""
        self.ahead_of: Callable[[str], Collection[str]] = lambda _call: ()
        """The calls that hold here, and come before a call: room is theirs first."""
        self._max_calls = max_calls
        self._streams = streams
        self._observer = observer
        self._reserving: set[str] = set()

    def check_room(self, call: str) -> None:
        """Return if a call is one of those that are awaited, or may be one more.

        Raises:
            ModelBusy: there are as many calls as MAX_CALLS allows, or will be with those who hold.
        """
        here = self._streams()
        awaited = (self.pool.awaited | self._reserving).difference(here)
        before = awaited.union(self.ahead_of(call))
        if call not in awaited and len(here) + len(before) >= self._max_calls:
            raise ModelBusy(f"there are {self._max_calls} calls, as many as MAX_CALLS allows")

    async def reserve(self, call: str, role: Role, *, patient: bool = True) -> None:
        """Take a model server for a call, in the time that Twilio gives.

        Who isn't `patient` comes again: the pool doesn't wait for what another bridge is giving up.

        Raises:
            ModelBusy: all are taken, others are ahead in line, or the bridge is full.
            ModelUnavailable: every one is down, or nobody can say in time.
        """
        self.check_room(call)
        began_s, failure = asyncio.get_running_loop().time(), None
        self._reserving.add(call)  # others who come while the store of leases is asked
        try:
            await self._reserve(call, role, patient=patient)
        except ModelError as error:
            failure = type(error).__name__
            raise
        finally:
            self._reserving.discard(call)
            took_s = asyncio.get_running_loop().time() - began_s
            self._observer.server_reserved(call, took_s, failure)

    async def _reserve(self, call: str, role: Role, *, patient: bool) -> None:
        try:
            async with asyncio.timeout(RESERVE_TIMEOUT_S):
                await self.pool.reserve(call, role, patient=patient)
        except TimeoutError:
            raise ModelUnavailable("no model server could be reserved in time") from None
