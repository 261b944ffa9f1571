"""Callers who hold, in Twilio's queue and in the pool's line.

Twilio asks for what they hear, piece by piece. Each time it is tried whether a model server has
become theirs: then they leave the queue, Twilio asks what comes now, and they are put through.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.audio.hold import HoldSound
from personaplex_bridge.clock import Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import (
    LeasesUnavailable,
    ModelBusy,
    ModelError,
    ModelUnavailable,
)
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import Choice
from personaplex_bridge.pool.leases import FORGOTTEN_S, PRESENT_S
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.admission import Admission
from personaplex_bridge.web.answers import Answers
from personaplex_bridge.web.observed import HELD_S
from personaplex_bridge.web.paths import HOLD_PATH, QUEUED_PATH, WAIT_PATH
from personaplex_bridge.web.webhooks import Choose

TELL_CHANGE_AFTER_S = 15.0
"""A caller who has moved up is told so, but not sooner than so long after the last time."""
TELL_AGAIN_AFTER_S = 60.0
"""A caller who hasn't moved up hears so often that they are not forgotten."""

HOPE_S = 15.0
"""With no model server, or no store of leases, callers hold on for so long: a failure that short
need not empty the line.
"""

SOUND_MAX_AGE_S = 3600
"""Twilio keeps the pieces for so long."""

_GONE = frozenset(
    {"hangup", "bridged", "bridging-in-process", "redirected", "redirected-from-bridged"}
)
"""Nobody is there, or somebody else has the call."""

_log = logging.getLogger(logs.NAME)


class Waiting:
    """The routes of those who hold."""

    def __init__(
        self,
        access: Access,
        answers: Answers,
        admission: Admission,
        choose: Choose,
        settings: Settings,
        sound: HoldSound,
        clock: Clock,
    ) -> None:
        self._access = access
        self._answers = answers
        self._admission = admission
        self._choose = choose
        self._timeout_s = settings.queue_timeout_s
        # Bridges that share their leases share the line: who is sent to one of them stays in it.
        self._keeps_places = settings.leases_url is not None and settings.drain_to is not None
        self._sound = sound
        self._holders = _Holders(settings.queue_limit, clock)
        admission.ahead_of = self._holders.ahead_of
        self._clock = clock

    @property
    def callers(self) -> int:
        """How many hold, as far as is known: who hangs up without a word counts for a while."""
        return self._holders.number()

    @property
    def is_used(self) -> bool:
        """Whether anybody holds."""
        return self._holders.number() > 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes to an application's."""
        router.add_post(WAIT_PATH, self.hold)
        router.add_post(QUEUED_PATH, self.go_on)
        router.add_get(HOLD_PATH + r"/{number:\d{1,4}}.wav", self.play)

    async def hold(self, request: web.Request) -> web.Response:
        """What a caller hears next, or that they hold no longer."""
        asked = await self._access.read_webhook(request)
        call, role = asked.get("CallSid", ""), self._role(request, asked)
        holder = self._holders.pop(call, asked.get("QueueTime", ""))
        self._holders.keep(call, holder)
        try:
            position = await self._place(call, role, holder)
        except ModelError as error:
            _log.warning("a caller can hold no longer: %s", error)
            position = None
        if position is None:
            return self._answers.leave_queue()
        if holder.is_to_be_told(position, self._clock.now()):
            return self._answers.tell_place(position)
        return self._answers.play_piece(request, holder.next_piece() % len(self._sound))

    async def go_on(self, request: web.Request) -> web.Response:
        """Put through a caller who has left the queue; or do what is to be done instead."""
        asked = await self._access.read_webhook(request)
        call, result = asked.get("CallSid", ""), asked.get("QueueResult", "")
        holder = self._holders.pop(call, asked.get("QueueTime", ""))
        request[HELD_S] = self._clock.now() - holder.since_s
        choice = self._choose(request.query, asked.get("To", ""))
        try:
            if result == "leave" and not self._admission.is_closed:
                return await self._put_through(request, call, choice, holder)
        except ModelError as error:
            _log.warning("a caller held in vain: %s", error)
        pool = self._admission.pool
        moves = self._admission.is_closed and result not in _GONE
        if not (moves and self._keeps_places) or call in pool.awaited:
            await pool.leave(call)
        if result in _GONE:
            _log.info("a caller holds no longer: %s", result)
            return self._answers.hang_up()
        if moves:
            return self._answers.elsewhere(request, choice)
        if result != "leave":
            _log.warning("Twilio's queue let a caller go: %.40r", result)
        return self._answers.failed(request)

    async def play(self, request: web.Request) -> web.Response:
        """A piece of hold sound. Twilio signs nothing here."""
        number = int(request.match_info["number"])
        if number >= len(self._sound):
            raise web.HTTPNotFound(text="no such piece\n")
        headers = {"Cache-Control": f"public, max-age={SOUND_MAX_AGE_S}"}
        body = self._sound.wav(number)
        return web.Response(body=body, content_type="audio/wav", headers=headers)

    async def _put_through(
        self, request: web.Request, call: str, choice: Choice, holder: _Holder
    ) -> web.Response:
        """Connect the caller; or let them hold on, if what was theirs has gone to somebody else.

        Raises:
            ModelError: they have held for long enough; or there is no model server.
        """
        try:
            await self._admission.reserve(call, choice.role)
        except ModelBusy:
            if self._is_over(holder):
                raise
            await self._admission.pool.wait(call)
            self._holders.keep(call, holder)
            return self._answers.hold_on(request, choice)
        return self._answers.connect(request, call, choice)

    def _is_over(self, holder: _Holder) -> bool:
        return self._clock.now() - holder.since_s >= self._timeout_s

    def _role(self, request: web.Request, asked: dict[str, str]) -> Role:
        return self._choose(request.query, asked.get("To", "")).role

    async def _place(self, call: str, role: Role, holder: _Holder) -> int | None:
        """The caller's place in line; None if they hold no longer.

        Raises:
            ModelUnavailable: no model server has been there for too long.
            QueueFull: the caller was forgotten, and so many others have come.
        """
        if self._is_over(holder) or self._admission.is_closed:
            return None
        try:
            await self._admission.reserve(call, role, patient=False)
        except ModelBusy:
            holder.down_since_s = None
        except ModelUnavailable:
            if not holder.may_hope(self._clock.now()):
                raise
        else:
            return None
        try:
            return await self._admission.pool.wait(call)
        except LeasesUnavailable:
            return holder.told or 1


@dataclass(slots=True)
class _Holder:
    """A caller who holds."""

    since_s: float
    asked_s: float
    """When Twilio last asked for them."""
    pieces: int = 0
    """How many they have heard."""
    told: int | None = None
    """The place they were told last, and when."""
    told_s: float = 0.0
    down_since_s: float | None = None
    """Since when there has been no model server at all."""

    def may_hope(self, now_s: float) -> bool:
        """Whether there may be a model server again soon, now that there is none."""
        if self.down_since_s is None:
            self.down_since_s = now_s
        return now_s - self.down_since_s < HOPE_S

    def is_to_be_told(self, position: int, now_s: float) -> bool:
        """Whether it is time to say their place; from then on it counts as said."""
        wait_s = TELL_AGAIN_AFTER_S if position == self.told else TELL_CHANGE_AFTER_S
        if self.told is not None and now_s - self.told_s < wait_s:
            return False
        self.told, self.told_s = position, now_s
        return True

    def next_piece(self) -> int:
        """The number of the piece that comes now."""
        self.pieces += 1
        return self.pieces - 1


class _Holders:
    """Those who hold, by call; at most as many as may, the last to have asked at the end."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._holders: dict[str, _Holder] = {}

    def pop(self, call: str, queue_time: str) -> _Holder:
        """The caller, who has held for so many seconds at Twilio, as it says; here no longer."""
        usable = queue_time.isascii() and queue_time.isdigit() and len(queue_time) <= 6
        held_s = int(queue_time) if usable else 0
        now_s = self._clock.now()
        return self._holders.pop(call, None) or _Holder(now_s - held_s, now_s)

    def keep(self, call: str, holder: _Holder) -> None:
        """The caller holds, and has just asked."""
        holder.asked_s = self._clock.now()
        while len(self._holders) >= self._limit:
            del self._holders[next(iter(self._holders))]
        self._holders[call] = holder

    def ahead_of(self, call: str) -> list[str]:
        """Those who have held for longer, and still ask. Who doesn't hold is behind all."""
        me, present_s = self._holders.get(call), self._clock.now() - PRESENT_S
        return [
            other
            for other, holder in self._holders.items()
            if holder.asked_s > present_s and (me is None or holder.since_s < me.since_s)
        ]

    def number(self) -> int:
        """Of those who haven't hung up without a word."""
        due_s = self._clock.now() - FORGOTTEN_S
        return sum(holder.asked_s > due_s for holder in self._holders.values())
