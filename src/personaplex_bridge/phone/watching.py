"""What a call's page is told of it while it goes on: server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html. The words are what the model says;
the model's protocol never tells those of the caller.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from personaplex_bridge.record import CallRecord, Ending

LOOK_EVERY_S = 0.1
FIGURES_EVERY_S = 1.0
"""Also shows the way there that the page still listens."""
START_TIMEOUT_S = 60.0
"""A call whose stream hasn't come by then never comes: its token is good no longer."""


class Calls(Protocol):
    """What must be known of a bridge."""

    @property
    def records(self) -> Sequence[CallRecord]:
        """The calls in progress."""
        ...

    def count(self, call_sid: str) -> None:
        """Bring the counters in a call's record up to date, if it is in progress."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is what JSON can say."""

    name: str
    data: object

    def to_bytes(self) -> bytes:
        """As it travels. JSON has no line breaks."""
        return f"event: {self.name}\ndata: {json.dumps(self.data)}\n\n".encode()


async def watch(call_sid: str, calls: Calls, is_gone: Callable[[], bool]) -> AsyncIterator[Event]:
    """What happens in a call, until it is over or if it never begins, or whoever is told `is_gone`.
    `calls` tells of those in progress.

    `ready` when the model listens: {"after_s"}. `words`: [{"at_s", "text"}]. `figures` once a
    second: {"reply_ms", "turns", "interruptions", "failures"}, reply_ms null before the first
    answer. `over`: {"by", "kind", "reason"}, all null if the stream didn't come.
    """
    record = await _begun(call_sid, calls, is_gone)
    if record is None:
        yield _over(None)
        return
    told, is_ready, figures_due = 0, False, 0
    while not is_gone():
        ending = record.ending  # before the last words
        if not is_ready and record.handshake_s is not None:
            is_ready = True
            yield Event("ready", {"after_s": round(record.handshake_s, 3)})
        if words := list(islice(record.words, told, None)):
            told += len(words)
            yield Event("words", [{"at_s": word.at_s, "text": word.text} for word in words])
        if figures_due <= 0 or ending is not None:
            figures_due = round(FIGURES_EVERY_S / LOOK_EVERY_S)
            calls.count(call_sid)
            yield Event("figures", _figures(record))
        if ending is not None:
            yield _over(ending)
            return
        figures_due -= 1
        await asyncio.sleep(LOOK_EVERY_S)


async def _begun(call_sid: str, calls: Calls, is_gone: Callable[[], bool]) -> CallRecord | None:
    for _ in range(round(START_TIMEOUT_S / LOOK_EVERY_S)):
        for record in calls.records:
            if record.call_sid == call_sid:
                return record
        if is_gone():
            break
        await asyncio.sleep(LOOK_EVERY_S)
    return None


def _figures(record: CallRecord) -> dict[str, int | None]:
    delays_s = record.turn_delays_s
    return {
        "reply_ms": round(delays_s[-1] * 1000) if delays_s else None,
        "turns": len(delays_s),
        "interruptions": len(record.barge_ins),
        "failures": len(record.failures),
    }


def _over(ending: Ending | None) -> Event:
    if ending is None:
        return Event("over", {"by": None, "kind": None, "reason": None})
    return Event("over", {"by": ending.by, "kind": ending.kind, "reason": ending.reason})
