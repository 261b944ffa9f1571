"""The soak, phase by phase."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.findings import Figures, Stall, figures
from benchmarks.soak.phones import Made
from benchmarks.soak.plan import Plan, Sizes
from benchmarks.soak.rig import Rig, Tell, running
from benchmarks.soak.verdict import Measured, Verdict, judge


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it."""

    measured: Measured
    verdicts: list[Verdict]
    samples: list[dict[str, Any]]

    @property
    def is_met(self) -> bool:
        """Whether every criterion is."""
        return all(verdict.is_met for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For the results."""
        measured = self.measured
        return {
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "without_faults": _json_of(measured.baseline),
            "with_faults": _json_of(measured.with_faults),
            "samples": self.samples,
        }


def _json_of(figures_: Figures) -> dict[str, Any]:
    return {**asdict(figures_), "faulty": figures_.faulty}


async def soak(sizes: Sizes, speech: Path, tell: Tell) -> Soaked:
    """Make all the calls, and judge."""
    async with running(sizes, speech, tell) as rig:
        plan = Plan(sizes)
        gc.collect()
        gc.freeze()
        at_once = max(sizes.at_once, sizes.long_at_once)
        calls = plan.short(with_faults=True)
        await rig.phones.make(calls, sizes.warm_up_calls, min(at_once, sizes.warm_up_calls))
        long_calls = plan.long(with_faults=True)
        await rig.phones.keep_making(long_calls, sizes.warm_up_minutes * 60, sizes.long_at_once)
        before = await rig.rest("at rest before")
        rig.forget()
        calm = [await _load(rig, plan, sizes, with_faults=False)]
        await rig.rest("at rest between")
        troubled = await _load(rig, plan, sizes, with_faults=True)
        after = await rig.rest("at rest after")
        calm.append(await _load(rig, plan, sizes, with_faults=False))
        errors = await rig.end()
        crowded = rig.models.crowded
        measured = Measured(
            before,
            after,
            _figures(*calm),
            _figures(troubled),
            troubled.short,
            troubled.long_s,
            crowded,
            errors,
        )
        return Soaked(measured, judge(measured, sizes), rig.samples)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What short calls, then long ones, came to."""

    made: list[Made]
    sessions: list[dict[str, Any]]
    stalls: list[Stall]
    short: int
    """How many were short."""
    long_s: float
    """How long it was then."""


async def _load(rig: Rig, plan: Plan, sizes: Sizes, *, with_faults: bool) -> _Loaded:
    """Short calls, then long ones; without faults half of them: it is done before and after."""
    phones, name = rig.phones, "with faults" if with_faults else "without faults"
    rig.phase = f"{name}, short"
    number = sizes.short_calls if with_faults else sizes.baseline_calls // 2
    await phones.make(plan.short(with_faults=with_faults), number, min(sizes.at_once, number))
    short = len(phones.made)
    rig.phase = f"{name}, long"
    began_s = time.monotonic()
    minutes = sizes.long_minutes if with_faults else sizes.baseline_minutes / 2
    calls = plan.long(with_faults=with_faults)
    await phones.keep_making(calls, minutes * 60, sizes.long_at_once)
    long_s = time.monotonic() - began_s
    await asyncio.sleep(rig.rest_s)  # the last sessions may still be told of
    await rig.look()  # with the last stalls
    stalls = [*rig.models.stalls, *rig.watcher.stalls]
    loaded = _Loaded([*phones.made], [*rig.models.sessions], stalls, short, long_s)
    rig.forget()
    return loaded


def _figures(*loads: _Loaded) -> Figures:
    """Of all of them together."""
    chain = itertools.chain.from_iterable
    return figures(
        chain(load.made for load in loads),
        chain(load.sessions for load in loads),
        [stall for load in loads for stall in load.stalls],
    )
