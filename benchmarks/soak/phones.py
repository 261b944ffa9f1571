"""The phones: so many calls at once, one after another, and what came of each."""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from urllib.parse import quote_plus

from benchmarks.bad_models import prompt_of
from benchmarks.soak import bad_phones
from benchmarks.soak.plan import GOLDEN, Call
from personaplex_bridge.errors import BridgeError
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults, Jitter, Spell
from personaplex_bridge.simulator.report import PhoneReport

ANSWER_AFTER_S = 0.5
"""From the webhook to the stream, as at Twilio. The model is ready by then, so that every frame
goes to it and frames can be paired by their place."""
HUNG_S = 40.0
"""A call that is so much longer than it was to be hangs. (Half-open sockets may take so long.)"""
LEAST_S = 1.0
MODEL_FRAME_BYTES = 640
OVER = "the caller hung up"
"""How a good call ends."""
HUNG = "HUNG"

STANDIN_FAULTS = {
    "phone never opens its stream": CallFaults(never_connects=True),
    "phone stops reading and writing for 2 s": CallFaults(block=(Spell(1.0, 2.0),)),
    "phone loses and doubles frames": CallFaults(lose=10, double=15),
    "phone has jitter of up to 120 ms": CallFaults(jitter=Jitter(120)),
}


@dataclass(frozen=True, slots=True)
class Made:
    """What the phone knows of its call. Frames of 20 ms were sent; model frames received."""

    call: Call
    began_s: float
    ended_s: float
    outcome: str
    sent: int = 0
    received: float = 0.0
    gaps: int = 0
    underruns: int = 0
    problems: tuple[str, ...] = ()
    late_ms: float = 0.0
    """How late the phone itself was, at worst."""
    completing_at: array[float] = field(default_factory=lambda: array("d"))
    """When it sent the frames that complete a model frame."""
    media_at: array[float] = field(default_factory=lambda: array("d"))
    """When the bridge's media came."""


class Phones:
    """Makes calls. `made` collects what came of them."""

    def __init__(self, webhook_url: str, token: str, speech: bytes, spread_s: float) -> None:
        self.made: list[Made] = []
        self.in_progress = 0
        self._webhook_url = webhook_url
        self._token = token
        self._speech = speech
        self._spread_s = spread_s

    async def make(self, calls: Iterator[Call], number: int, at_once: int) -> None:
        """So many calls."""
        await self._callers(islice(calls, number), at_once, float("inf"))

    async def keep_making(self, calls: Iterator[Call], seconds: float, at_once: int) -> None:
        """For so long, as many at once all the time."""
        await self._callers(calls, at_once, time.monotonic() + seconds)

    async def _callers(self, calls: Iterator[Call], at_once: int, end_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            for place in range(at_once):
                group.create_task(self._caller(place, calls, end_s))

    async def _caller(self, place: int, calls: Iterator[Call], end_s: float) -> None:
        """One call after another."""
        await asyncio.sleep(self._spread_s * (place * GOLDEN % 1))
        while (left_s := end_s - time.monotonic()) > 0:
            call = next(calls, None)
            if call is None:
                return
            if left_s < call.length_s:  # too short for a fault, too
                call = replace(call, length_s=max(left_s, LEAST_S), fault=None)
            self.in_progress += 1
            try:
                self.made.append(await self._call(call))
            finally:
                self.in_progress -= 1

    async def _call(self, call: Call) -> Made:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(call.length_s + HUNG_S):
                if call.fault in bad_phones.DEEDS:
                    outcome = await bad_phones.play(self._plan(call), call.fault)
                    return Made(call, began_s, time.monotonic(), outcome)
                report = await PhoneCall(self._plan(call)).run()
        except TimeoutError:
            return Made(call, began_s, time.monotonic(), HUNG)
        except (BridgeError, OSError) as error:
            return Made(call, began_s, time.monotonic(), _told(error))
        return _made(call, began_s, report)

    def _plan(self, call: Call) -> CallPlan:
        prompt = quote_plus(prompt_of(call.number, call.model_deed, call.fault_at_s))
        is_raw = call.fault in bad_phones.DEEDS
        length_s = call.fault_at_s if is_raw else call.length_s
        faults = STANDIN_FAULTS.get(call.fault or "", CallFaults())
        return CallPlan(
            self._webhook_url if call.is_usual else f"{self._webhook_url}?text_prompt={prompt}",
            self._voice(call.number, length_s),
            auth_token=self._token,
            hang_up_after_s=length_s,
            faults=replace(faults, answer_after_s=ANSWER_AFTER_S),
        )

    def _voice(self, number: int, length_s: float) -> bytes:
        """The recording, over and over, from somewhere else for each call."""
        begin = int(len(self._speech) * (number * GOLDEN % 1)) // 160 * 160
        wanted = int((length_s + 1) * 8000)
        times = 1 + wanted // len(self._speech)
        return (self._speech[begin:] + self._speech * times)[:wanted]


def _made(call: Call, began_s: float, report: PhoneReport) -> Made:
    return Made(
        call,
        began_s,
        time.monotonic(),
        report.outcome,
        report.frames_sent,
        report.media_bytes / MODEL_FRAME_BYTES,
        len(report.gaps),
        report.underruns,
        tuple(report.problems),
        _late_ms(report.sent_at),
        array("d", report.sent_at[3::4]),
        array("d", report.media_at),
    )


def _late_ms(sent_at: list[float]) -> float:
    due = ((number * 0.02, at_s - sent_at[0]) for number, at_s in enumerate(sent_at))
    return max((1000 * (at_s - due_s) for due_s, at_s in due), default=0.0)


def _told(error: Exception) -> str:
    """Without addresses: alike for all calls that it happens to."""
    return re.sub(r"\b\w+://\S+", "the bridge", f"{type(error).__name__}: {error}")[:120]
