"""Whether what was measured is what was asked for: one verdict for each criterion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import TypeAlias

import numpy as np

from benchmarks.soak.findings import Alike, Figures
from benchmarks.soak.plan import Sizes
from benchmarks.soak.watch import Sample

RESIDENT_MB = 5.0
P50_MS, P99_MS = 0.5, 5.0
"""Delays that differ by less are equal: a quarter of a telephone frame at the most, and less than
two runs without faults differ on a machine that does something else beside."""
LEAST_JUDGED = 0.5
"""With fewer calls than that to judge by, the machine was too busy to tell anything."""
RARE = 100
"""A difference of counts that comes by chance less often than this counts as one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One criterion, and what was seen of it."""

    criterion: str
    is_met: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Measured:
    """All that is judged. `before` and `after` are the bridge at rest: after the warm-up, and in
    the end.
    """

    before: Sample
    after: Sample
    baseline: Figures
    with_faults: Figures
    short_made: int
    long_s: float
    crowded: int
    """Connections that a model server got beside another one."""
    errors: Sequence[str]
    """What the bridge's log says of errors that it has not expected."""


def judge(measured: Measured, sizes: Sizes) -> list[Verdict]:
    """Every criterion."""
    baseline, run = measured.baseline, measured.with_faults
    return [
        *_leaks(measured.before, measured.after),
        _all_made(measured, sizes),
        Verdict(
            "no call hangs",
            run.hung + baseline.hung == 0,
            f"{run.hung + baseline.hung} of {run.calls + run.faulty + baseline.calls} hung",
        ),
        Verdict(
            "no model server ever had two connections at a time",
            measured.crowded == 0,
            f"{measured.crowded} crowded",
        ),
        Verdict(
            "the bridge logs no error of its own",
            not measured.errors,
            "; ".join([f"{len(measured.errors)} lines", *measured.errors[:3]]),
        ),
        _can_be_judged(baseline, run),
        *_counts(baseline, run),
        *_delays("uplink", baseline.uplink_ms, run.uplink_ms),
        *_delays("downlink", baseline.downlink_ms, run.downlink_ms),
    ]


def _leaks(before: Sample, after: Sample) -> list[Verdict]:
    def not_more(what: str, then: int, now: int) -> Verdict:
        return Verdict(f"no {what} left over", now <= then, f"{then} before, {now} after")

    growth_mb = after.resident_mb - before.resident_mb
    return [
        Verdict(
            "no call or line in progress at rest",
            before.is_settled and after.is_settled,
            f"{after.sessions} sessions, lines {_states(after.lines)}",
        ),
        not_more("tasks", before.tasks, after.tasks),
        Verdict(
            "no sockets left over",
            all(after.sockets[state] <= before.sockets.get(state, 0) for state in after.sockets),
            f"{_states(before.sockets)} before, {_states(after.sockets)} after",
        ),
        not_more("file descriptors", before.descriptors, after.descriptors),
        Verdict(
            f"resident memory back within {RESIDENT_MB:g} MB",
            growth_mb <= RESIDENT_MB,
            f"{before.resident_mb:.1f} MB before, {after.resident_mb:.1f} after: {growth_mb:+.1f}",
        ),
    ]


def _all_made(measured: Measured, sizes: Sizes) -> Verdict:
    run = measured.with_faults
    wanted = sizes.short_calls // sizes.fault_every
    enough = measured.short_made == sizes.short_calls and run.faulty >= wanted
    return Verdict(
        "all calls were made, with faults in the share that was asked for",
        enough and measured.long_s >= sizes.long_minutes * 60,
        f"{measured.short_made} short, then {measured.long_s / 60:.1f} min; "
        f"{run.calls + run.faulty} calls, {run.faulty} with one of {len(run.faults)} faults",
    )


def _can_be_judged(baseline: Figures, run: Figures) -> Verdict:
    def share(figures: Figures) -> float:
        return figures.judged / max(1, figures.calls)

    return Verdict(
        "neither the machine nor a measuring program stood still in most of the calls",
        min(share(baseline), share(run)) >= LEAST_JUDGED,
        f"{baseline.judged} of {baseline.calls} calls can be judged, "
        f"{run.judged} of {run.calls} beside faults",
    )


def _counts(baseline: Figures, run: Figures) -> list[Verdict]:
    """Equal: no more than come by chance, calls compared with calls alike."""

    def equal(what: str, count: Callable[[Alike], int], detail: str) -> Verdict:
        pairs = [
            (baseline.alike[kind], run.alike[kind])
            for kind in baseline.alike.keys() & run.alike.keys()
        ]
        tables = [(count(one), one.judged, count(two), two.judged) for one, two in pairs]
        without, beside = (sum(map(count, one.alike.values())) for one in (baseline, run))
        likely = expected(tables)
        return Verdict(
            what,
            is_by_chance(tables),
            f"{without} of {baseline.judged} without, {beside} of {run.judged} beside faults; of "
            f"{sum(table[3] for table in tables)} with their like in the other run "
            f"{sum(table[2] for table in tables)}, by chance {likely:.0f}{detail}",
        )

    problems = f"; {', '.join(run.problems)}" if run.problems else ""
    frames = (
        f" (frames lost {baseline.lost} and {run.lost}, doubled {baseline.doubled} and "
        f"{run.doubled}, gaps {baseline.gaps} and {run.gaps}, problems "
        f"{sum(baseline.problems.values())} and {sum(run.problems.values())}{problems})"
    )
    return [
        equal(
            "calls with frames lost or doubled, gaps or problems",
            lambda alike: alike.affected,
            frames,
        ),
        equal(
            "calls in which the phone ran dry for a moment, heard or not",
            lambda alike: alike.ran_dry,
            "",
        ),
    ]


Table: TypeAlias = tuple[int, int, int, int]
"""Of one kind of calls: how many it happened to before, of how many; and after."""


def expected(tables: Sequence[Table]) -> float:
    """To how many after, were it all the same."""
    return sum(
        (before + after) * of_after / (of_before + of_after)
        for before, of_before, after, of_after in tables
    )


def is_by_chance(tables: Sequence[Table]) -> bool:
    """Whether what happened after is no more than chance makes of what happened before.

    The exact test for several two-by-two tables, one-sided (Fisher's, if there is one): were it
    all the same within each kind, how likely would so many or more of all that happened have fallen
    on the calls after?
    """
    odds = np.ones(1)
    for before, of_before, after, of_after in tables:
        happened, calls = before + after, of_before + of_after
        fallen = [
            comb(of_after, those) * comb(of_before, happened - those) / comb(calls, happened)
            for those in range(happened + 1)
        ]
        odds = np.convolve(odds, fallen)
    return float(odds[sum(table[2] for table in tables) :].sum()) * RARE >= 1


def _delays(
    way: str, without: dict[str, float] | None, beside: dict[str, float] | None
) -> list[Verdict]:
    if without is None or beside is None:
        return [Verdict(f"{way} delays equal", False, "nothing was measured")]
    return [
        Verdict(
            f"{way} {which} equal within {within_ms:g} ms",
            beside[which] - without[which] <= within_ms,
            f"{without[which]:.2f} ms without, {beside[which]:.2f} ms beside faults",
        )
        for which, within_ms in (("p50", P50_MS), ("p99", P99_MS))
    ]


def _states(counts: dict[str, int]) -> str:
    return ", ".join(f"{state} {count}" for state, count in sorted(counts.items())) or "none"
