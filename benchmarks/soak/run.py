"""The soak, phase by phase."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.findings import Figures, figures
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
        baseline, _, _ = await _load(rig, plan, sizes, with_faults=False)
        await rig.rest("at rest between")
        with_faults, short, long_s = await _load(rig, plan, sizes, with_faults=True)
        after = await rig.rest("at rest after")
        errors = await rig.end()
        crowded = rig.models.crowded
        measured = Measured(before, after, baseline, with_faults, short, long_s, crowded, errors)
        return Soaked(measured, judge(measured, sizes), rig.samples)


async def _load(
    rig: Rig, plan: Plan, sizes: Sizes, *, with_faults: bool
) -> tuple[Figures, int, float]:
    """Short calls, then long ones; their figures, how many were short, and how long it was then."""
    phones, name = rig.phones, "with faults" if with_faults else "without faults"
    rig.phase = f"{name}, short"
    number = sizes.short_calls if with_faults else sizes.baseline_calls
    await phones.make(plan.short(with_faults=with_faults), number, sizes.at_once)
    short = len(phones.made)
    rig.phase = f"{name}, long"
    began_s = time.monotonic()
    minutes = sizes.long_minutes if with_faults else sizes.baseline_minutes
    calls = plan.long(with_faults=with_faults)
    await phones.keep_making(calls, minutes * 60, sizes.long_at_once)
    long_s = time.monotonic() - began_s
    await asyncio.sleep(rig.rest_s)  # the last sessions may still be told of
    await rig.look()  # with the last stalls
    stalls = [*rig.models.stalls, *rig.watcher.stalls]
    found = figures(phones.made, rig.models.sessions, stalls)
    rig.forget()
    return found, short, long_s
