"""Many calls over several bridges that share model servers, while a bridge is killed now and then:
never two connections on one server, and no lease left behind.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.errors import BridgeError
from personaplex_bridge.pool.leases import PRESENT_S
from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.caller import PhoneCall
from personaplex_bridge.simulator.plan import CallPlan
from tests.processes import HOST
from tests.redis.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen."""

    calls: int = 500
    bridges: int = 3
    servers: int = 8
    ttl_s: float = 5.0
    call_every_s: float = 1.15
    shortest_s: float = 3.0
    longest_s: float = 9.0
    kill_every_s: float = 20.0
    settle_s: float = 5.0
    """How long warm lines may take to be there again, once leases have run out and no dead bridge's
    callers are in line.
    """
    dead_for_s: float = 2.0
    """Between a bridge's death and its next start."""
    when_busy: str = "queue"
    seed: int = 1


@dataclass(slots=True)
class _Tally:
    """What came of it so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    outcomes_after_a_kill: Counter[str] = field(default_factory=Counter)
    """Of calls whose bridge was killed meanwhile, or not there."""
    held: int = 0
    heard_the_model: int = 0
    in_progress: dict[str, int] = field(default_factory=dict)
    """The bridge of each call."""
    kills: list[dict[str, Any]] = field(default_factory=list)


async def prove(plan: Plan, folder: Path) -> dict[str, Any]:
    """Do it; returns what came of it. Processes leave their logs in `folder`."""
    settings = {"LEASE_TTL": str(plan.ttl_s), "WHEN_BUSY": plan.when_busy}
    fleet, tally = Fleet(folder, plan.bridges, plan.servers, settings), _Tally()
    async with fleet.running():
        await asyncio.sleep(plan.ttl_s)  # a new Redis gives out nothing before
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_kill_now_and_then(plan, fleet, tally, over), name="kill")
            await _make_calls(plan, fleet, tally)
            over.set()
        forgotten_s = PRESENT_S if plan.when_busy == "queue" else 0.0
        await asyncio.sleep(max(plan.ttl_s, forgotten_s) + plan.settle_s)
        quiet = await fleet.leases()
        together = await _all_at_once(plan, fleet)
        saw = await fleet.end()
        left = await fleet.leases()
    return {
        "calls": plan.calls,
        "bridges": plan.bridges,
        "model_servers": plan.servers,
        "lease_ttl_s": plan.ttl_s,
        "when_busy": plan.when_busy,
        "kills": tally.kills,
        "what_became_of_the_calls": {
            "their_bridge_lived": dict(tally.outcomes.most_common()),
            "their_bridge_was_killed": dict(tally.outcomes_after_a_kill.most_common()),
        },
        "calls_that_held": tally.held,
        "calls_that_heard_the_model": tally.heard_the_model,
        "leases_when_quiet": {
            "of_calls": sum(not lease["spare"] for lease in quiet.values()),
            "of_warm_lines": sum(lease["spare"] for lease in quiet.values()),
        },
        "calls_at_once_afterwards": together,
        "leases_left_when_all_have_ended": len(left),
        "servers_saw": saw,
        "connections_beside_another": sum(each["connections_beside_another"] for each in saw),
    }


async def _make_calls(plan: Plan, fleet: Fleet, tally: _Tally) -> None:
    dice, account = random.Random(plan.seed), TwilioAccount()
    async with asyncio.TaskGroup() as group:
        for number in range(plan.calls):
            seconds = dice.uniform(plan.shortest_s, plan.longest_s)
            bridge = dice.randrange(plan.bridges)
            group.create_task(_call(fleet, bridge, seconds, tally, account), name=f"call {number}")
            await asyncio.sleep(plan.call_every_s * dice.uniform(0.5, 1.5))


async def _call(
    fleet: Fleet, bridge: int, seconds: float, tally: _Tally, account: TwilioAccount
) -> None:
    url = f"http://{HOST}:{fleet.ports[bridge]}/voice/inbound"
    phone = PhoneCall(CallPlan(url, b"", hang_up_after_s=seconds), account=account)
    sid = phone.report.call_sid
    tally.in_progress[sid] = bridge
    life = fleet.life(bridge)
    try:
        await phone.run()
    except BridgeError:
        outcome = phone.report.outcome or "no bridge there"
    else:
        outcome = phone.report.outcome
    del tally.in_progress[sid]
    lived = life is not None and fleet.life(bridge) == life
    (tally.outcomes if lived else tally.outcomes_after_a_kill)[outcome] += 1
    tally.held += phone.report.held_s is not None
    tally.heard_the_model += phone.report.media_bytes > 0


async def _kill_now_and_then(plan: Plan, fleet: Fleet, tally: _Tally, over: asyncio.Event) -> None:
    number, next_s = 0, SYSTEM_CLOCK.now() + plan.kill_every_s
    while not await SYSTEM_CLOCK.happens(over, next_s):
        next_s += plan.kill_every_s
        bridge = number % plan.bridges
        calls = sum(of == bridge for of in tally.in_progress.values())
        await fleet.kill(bridge)
        tally.kills.append({"bridge": bridge + 1, "calls_it_had": calls})
        await asyncio.sleep(plan.dead_for_s)
        await fleet.start(bridge)
        number += 1


async def _all_at_once(plan: Plan, fleet: Fleet) -> dict[str, int]:
    """As many calls as there are servers, over all bridges: every server is to be had."""
    tally, account = _Tally(), TwilioAccount()
    async with asyncio.TaskGroup() as group:
        for number in range(plan.servers):
            group.create_task(_call(fleet, number % plan.bridges, plan.settle_s, tally, account))
    return {"calls": plan.servers, "heard_the_model": tally.heard_the_model, "held": tally.held}
