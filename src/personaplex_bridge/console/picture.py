"""All that the console shows of a bridge at one moment, and what has changed since another."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import orjson

from personaplex_bridge import __version__
from personaplex_bridge.clock import Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.console.ended import EndedCall, EndedCalls
from personaplex_bridge.console.live import (
    CallView,
    Timelines,
    sid_of,
    view,
    words_after,
    words_until,
)
from personaplex_bridge.pool.pool import ServerReport
from personaplex_bridge.record import CallRecord, Word
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.web.bridge import Bridge

CALLS_AT_A_TIME = 5
"""Calls looked at in one go: a quarter of a millisecond."""

MAX_WORDS = 1000
"""Of a call, for those who begin to watch: some minutes. /api/calls/{sid} has all that is kept."""

Change = dict[str, Any]
"""What changed, by name; ready for JSON."""


@dataclass(frozen=True, slots=True)
class BridgeView:
    """The bridge itself, and what can be done with it."""

    instance: str
    """Another one after a restart."""
    version: str
    began_at_s: float
    """Seconds since 1970."""
    draining: bool
    """Whether new calls are turned away."""
    callers_waiting: int
    max_calls: int
    leases: str
    """`ok`, or `away`: the store of leases can't be reached, and no call begins."""
    can_forward: bool
    """Whether there is a FORWARD_TO."""
    has_history: bool
    has_phone: bool
    """Whether there is a phone in the browser, at /phone."""
    can_log_out: bool


@dataclass(frozen=True, slots=True)
class ServerView:
    """A model server, by its place in PERSONAPLEX_URL; not its address, which may be used."""

    number: int
    circuit: str
    """`closed` is good, `half-open` is being tried, `open` gets no calls."""
    busy: int
    capacity: int
    last_failure: str | None
    """The class of the last error."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What is there beside the bridge."""

    began_at_s: float
    has_history: bool = False
    has_phone: bool = False
    can_log_out: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """One moment."""

    bridge: BridgeView
    servers: tuple[ServerView, ...]
    calls: Mapping[str, CallView]
    """By SID."""
    ended: tuple[EndedCall, ...]
    """The latest last."""
    forgets: int
    """How often ended calls were forgotten, because somebody deleted them."""
    records: Mapping[str, CallRecord]
    """Of these calls; they go on."""
    last_words: Mapping[str, Word | None]
    """The last word of each call at this moment."""


class Look:
    """Looks at a bridge."""

    def __init__(
        self, bridge: Bridge, settings: Settings, ended: EndedCalls, extras: Extras, clock: Clock
    ) -> None:
        self._bridge = bridge
        self._settings = settings
        self._ended = ended
        self._extras = extras
        self._clock = clock
        self._timelines = Timelines()

    def sessions(self) -> dict[str, BridgeSession]:
        """The calls in progress, by SID."""
        return {sid_of(session.record): session for session in self._bridge.sessions}

    def call(self, session: BridgeSession) -> CallView:
        """A call in progress."""
        sid, now_s = session.record.call_sid, self._clock.now()
        server = self._bridge.pool.server_of(sid)
        return view(session, server, self._timelines.of(session), now_s)

    def bridge(self) -> BridgeView:
        """The bridge."""
        bridge, extras = self._bridge, self._extras
        return BridgeView(
            instance=bridge.instance,
            version=__version__,
            began_at_s=extras.began_at_s,
            draining=bridge.is_draining,
            callers_waiting=bridge.callers_waiting,
            max_calls=self._settings.max_calls,
            leases="ok" if bridge.pool.leases_reachable else "away",
            can_forward=self._settings.forward_to is not None,
            has_history=extras.has_history,
            has_phone=extras.has_phone,
            can_log_out=extras.can_log_out,
        )

    def servers(self) -> tuple[ServerView, ...]:
        """The model servers."""
        reports = enumerate(self._bridge.pool.servers, start=1)
        return tuple(_server(number, report) for number, report in reports)

    def ended(self) -> tuple[EndedCall, ...]:
        """The calls that ended last, the latest last."""
        return tuple(self._ended.latest)

    def forget(self, sids: Collection[str]) -> None:
        """Calls that were deleted are shown no more once they are over."""
        self._ended.forget(sids)

    async def picture(self) -> Picture:
        """All of it. Calls are looked at a few at a time, and whoever has sound to move comes in
        between; the words are those of the last moment, so nothing may be awaited before they are
        used.
        """
        views = {}
        for number, (sid, session) in enumerate(self.sessions().items(), start=1):
            views[sid] = self.call(session)
            if number % CALLS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        records = {sid: session.record for sid, session in self.sessions().items() if sid in views}
        return Picture(
            self.bridge(),
            self.servers(),
            {sid: views[sid] for sid in records},
            self.ended(),
            self._ended.forgets,
            records,
            {sid: one.words[-1] if one.words else None for sid, one in records.items()},
        )

    async def whole(self, now: Picture) -> Change:
        """All of a picture, with the latest words of its calls as they were then. It is made one
        call at a time: with many long ones it takes a while.
        """
        calls = []
        for sid, call in now.calls.items():
            latest = words_until(now.records[sid], now.last_words[sid], MAX_WORDS)
            calls.append(_fragment({**as_dict(call), "words": _told(latest)}))
            await asyncio.sleep(0)
        ended = await _fragments(now.ended)
        return {"bridge": now.bridge, "servers": now.servers, "calls": calls, "ended": ended}

    async def listed(self, now: Picture) -> Change:
        """The calls of a picture, without words; made one call at a time, too."""
        calls = await _fragments(now.calls.values())
        return {"calls": calls, "ended": await _fragments(now.ended)}

    def changes(self, before: Picture, now: Picture) -> Change:
        """What has changed; empty if nothing has. Of a call: its SID, what is another, and the
        words that came. `gone` are the SIDs of calls that are over, `ended` tells how; `forgotten`
        are those of ended calls that were deleted.
        """
        calls = [_change(sid, before, now) for sid in now.calls]
        known = {(one.sid, one.ended_at_s) for one in before.ended}
        change: Change = {
            "bridge": None if now.bridge == before.bridge else now.bridge,
            "servers": None if now.servers == before.servers else now.servers,
            "calls": [call for call in calls if len(call) > 1],
            "gone": [sid for sid in before.calls if sid not in now.calls],
            "ended": [one for one in now.ended if (one.sid, one.ended_at_s) not in known],
            "forgotten": _forgotten(before, now),
        }
        return {name: value for name, value in change.items() if value}


def as_dict(call: CallView) -> Change:
    """A call's fields by name; not copied, as dataclasses' own `asdict` would."""
    return {field.name: getattr(call, field.name) for field in fields(call)}


def _server(number: int, report: ServerReport) -> ServerView:
    return ServerView(number, report.circuit, report.busy, report.capacity, report.last_failure)


def _forgotten(before: Picture, now: Picture) -> list[str]:
    """Not those that only had to make room for later ones."""
    if now.forgets == before.forgets:
        return []
    left = {one.sid for one in now.ended}
    return sorted({one.sid for one in before.ended} - left)


def _change(sid: str, before: Picture, now: Picture) -> Change:
    """What has changed of a call; all of one that is new."""
    call, old = now.calls[sid], before.calls.get(sid)
    words = _words(now.records[sid], before.last_words.get(sid))
    if old is None:
        return {**as_dict(call), "words": words}
    told = {name: one for name, one in as_dict(call).items() if one != getattr(old, name)}
    return {"sid": sid, **told, **({"words": words} if words else {})}


def _words(record: CallRecord, last: Word | None) -> list[tuple[float, str]]:
    """What the model has said after a word."""
    return _told(words_after(record, last))


def _told(words: Sequence[Word]) -> list[tuple[float, str]]:
    return [(round(word.at_s, 2), word.text) for word in words]


async def _fragments(calls: Iterable[object]) -> list[orjson.Fragment]:
    """Calls as JSON; others come in between."""
    made = []
    for call in calls:
        made.append(_fragment(call))
        await asyncio.sleep(0)
    return made


def _fragment(content: object) -> orjson.Fragment:
    """JSON already, within more of it."""
    return orjson.Fragment(orjson.dumps(content))
