"""Whole calls in virtual time: phone, bridge and model over real sockets in one process.

Computing takes no virtual time, so what is measured is what the bridge decides to do, and comes
out the same on every machine. What computing adds is in the load benchmark.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from personaplex_bridge import logs
from personaplex_bridge.audio.mulaw import FRAME_BYTES, loudness
from personaplex_bridge.clock import Clock, LoopClock
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool import make_pool
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator import virtual_time
from personaplex_bridge.simulator.alignment import Match, find_speech
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.faults import CallFaults, ModelFaults
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import WEBHOOK_PATH

HOST = "127.0.0.1"
LOOK_WITHIN_S = 5.0
"""How late speech may come back and still be looked for."""

logging.getLogger(logs.NAME).setLevel(logging.ERROR)  # stalls are told of, here on purpose


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call, seen from all three sides."""

    phone: PhoneReport
    record: CallRecord
    model: ModelSession
    crowded: int

    def echoes(self, speech: bytes) -> list[Match]:
        """Where each second of the caller's speech came back, with a model that echoes."""
        return find_speech(speech, bytes(self.phone.heard), LOOK_WITHIN_S)

    def loud(self) -> list[bool]:
        """For each 20 ms at the phone, whether there was sound."""
        heard = bytes(self.phone.heard)
        return loudness(heard[: len(heard) // FRAME_BYTES * FRAME_BYTES])


@dataclass
class Line:
    """A bridge and a model, ready for calls."""

    webhook: str
    model: ModelServer
    clock: Clock
    records: asyncio.Queue[CallRecord] = field(default_factory=asyncio.Queue)

    async def call(self, plan: CallPlan, query: str = "") -> Outcome:
        """One call from webhook to the end of its record."""
        plan = dataclasses.replace(plan, webhook_url=self.webhook + query)
        report = await PhoneCall(plan, self.clock).run()
        record = await asyncio.wait_for(self.records.get(), 5.0)
        return Outcome(report, record, self.model.sessions[-1], self.model.crowded)


@asynccontextmanager
async def line(options: ModelOptions, settings: Settings, clock: Clock) -> AsyncIterator[Line]:
    """Model and bridge on this machine."""
    model = ModelServer(options, clock)
    catalogue = load_catalogue()
    async with hosted(model.application(), HOST, 0) as model_port:
        role = catalogue.get(settings.persona).role
        server = ServerAddress(f"ws://{HOST}:{model_port}{CHAT_PATH}")
        pool = make_pool(settings, [server], role)
        records: asyncio.Queue[CallRecord] = asyncio.Queue()
        bridge = Bridge(settings, catalogue, pool, records.put_nowait, clock=clock)
        async with hosted(bridge.application(), HOST, 0) as port:
            yield Line(f"http://{HOST}:{port}{WEBHOOK_PATH}", model, clock, records)


def simulate(
    speech: bytes,
    seconds: float,
    settings: Settings,
    *,
    behave: str = "echo",
    call: CallFaults | None = None,
    model: ModelFaults | None = None,
) -> Outcome:
    """One call in virtual time, to a model that is ready at once."""
    plan = CallPlan("", speech, hang_up_after_s=seconds, faults=call or CallFaults())
    options = ModelOptions(behave, prompt_ms=0, faults=model or ModelFaults())

    async def run() -> Outcome:
        async with line(options, settings, LoopClock()) as ready:
            return await ready.call(plan)

    return virtual_time.run(run())
