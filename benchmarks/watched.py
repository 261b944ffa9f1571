"""What watching costs the calls: the load of `./scripts/bench load`, with somebody who watches and
with nobody, in turns.

Watched means a console that is open and /metrics scraped every 5 s; then the same with a call
history kept, too. The cost is the bridge process's alone. The watcher is one more process on this
machine, which in truth is elsewhere; that of `events` hardly computes. A Chromium (`page`) draws
all it is told of on the same cores: its turns tell the same cost, but their delays are those of a
busier machine. In all turns the model says words, as models do: the console shows them, and the
history keeps them.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks import watcher_process
from benchmarks.delays import percentiles
from benchmarks.load import Load, NotCalm, Run, check_calm, run_load
from benchmarks.processes import ended, line_of, started
from personaplex_bridge.console.watching import pause_s

ALLOWED = 0.10
"""How much worse a bridge may be whose console is open and that is scraped."""

ALONE, WATCHED, KEPT = "alone", "watched", "watched, history kept"
KINDS = (ALONE, WATCHED, KEPT)

EVENTS_SEEN = 0.5
"""At least so many of the events must have come: or the console was not open."""

COST = "core_share_per_call_percent"
DIRECTIONS, PERCENTS = ("uplink_ms", "downlink_ms"), ("p50", "p95", "p99")
Turn = dict[str, Any]


def measure(load: Load, sound: Path, turns: int, how: str) -> dict[str, Any]:
    """So many rounds, in each a turn of each kind; the six possible orders one after another."""
    found: dict[str, list[Turn]] = {kind: [] for kind in KINDS}
    again = dict.fromkeys(KINDS, 0)
    orders = itertools.cycle(itertools.permutations(KINDS))
    for number, kind in enumerate(itertools.chain(*itertools.islice(orders, turns)), start=1):
        print(f"turn {number} of {len(KINDS) * turns}, {kind}: {load} ...", flush=True)
        while (turn := _turn(load, sound, kind, how)) is None:
            again[kind] += 1
            if again[kind] > turns:
                raise SystemExit(f"more than {turns} turns of {kind!r} were not calm")
        found[kind].append(turn)
    return compare(load, how, found, again)


def compare(
    load: Load,
    how: str,
    turns: Mapping[str, Sequence[Turn]],
    again: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Medians over the turns of each kind. By how much watched ones are worse is told round by
    round, since the machine is not the same for a quarter of an hour; the median of these counts.
    """
    medians = {kind: _medians(all_of_it) for kind, all_of_it in turns.items()}
    worse = {kind: _worse(turns[ALONE], of_kind) for kind, of_kind in turns.items()}
    return {
        "calls": load.calls,
        "seconds": load.seconds,
        "watcher": how,
        "scraped_every_s": watcher_process.SCRAPE_EVERY_S,
        "medians": medians,
        "worse_by": {
            kind: {name: round(statistics.median(rounds), 4) for name, rounds in of_kind.items()}
            for kind, of_kind in worse.items()
            if kind != ALONE
        },
        "worse_by_in_each_round": {k: v for k, v in worse.items() if k != ALONE},
        "allowed": ALLOWED,
        "turns_made_again": again or {},
        "turns": turns,
    }


def is_good(result: dict[str, Any]) -> bool:
    """Whether nothing is worse for being watched than it may be."""
    return all(by <= result["allowed"] for by in result["worse_by"][WATCHED].values())


def render(result: dict[str, Any]) -> str:
    """A table for people."""
    kinds = list(result["turns"])
    lines = [
        f"{result['calls']} calls, {result['seconds']:g} s a turn, {len(result['turns'][ALONE])} "
        f"turns each, medians (least to most); watcher: {result['watcher']}",
        "",
        f"| figure | {' | '.join(kinds)} |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    for name in result["medians"][ALONE]:
        cells = [_cell(result, kind, name) for kind in kinds]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    watching = [turn["watchers_core_percent"] for turn in result["turns"][WATCHED]]
    lines += ["", f"The watcher itself took {statistics.median(watching):.1f} % of a core."]
    if any(result["turns_made_again"].values()):
        lines.append(f"Turns made again, not being calm: {result['turns_made_again']}.")
    return "\n".join(lines) + "\n"


def _turn(load: Load, sound: Path, kind: str, how: str) -> Turn | None:
    """One turn; None if its delays can't be told."""
    try:
        return uvloop.run(_try_turn(load, sound, kind, how))
    except NotCalm as error:
        print(f"{error} Once more ...", flush=True)
        return None


async def _try_turn(load: Load, sound: Path, kind: str, how: str) -> Turn:
    if kind == ALONE:
        return told(load, await run_load(load, sound), None)
    seen: dict[str, int] = {}

    @asynccontextmanager
    async def watched(url: str) -> AsyncIterator[psutil.Process]:
        async with started(watcher_process.command(how, url)) as process:
            await line_of(process)
            yield psutil.Process(process.pid)
            seen.update(json.loads(await ended(process)))

    with tempfile.TemporaryDirectory() as folder:
        history = "yes" if kind == KEPT else "no"
        run = await run_load(load, sound, watched, HISTORY=history, STATE_DIR=folder)
    if seen["events"] < EVENTS_SEEN * load.seconds / pause_s(load.calls) or not seen["scrapes"]:
        raise RuntimeError(f"the watcher has seen too little: {seen}")
    return told(load, run, seen)


def told(load: Load, run: Run, seen: dict[str, int] | None) -> Turn:
    """The figures of a turn. `seen` is what came to the watcher, if there was one.

    Raises:
        NotCalm: too many of the model's frames were not heard as they were said.
    """
    check_calm(load, run)
    return {
        COST: round(100 * run.cpu_s / run.wall_s / load.calls, 4),
        "uplink_ms": percentiles(run.uplink_ms),
        "downlink_ms": percentiles(run.downlink_ms),
        "generator_late_ms": percentiles(run.late_ms),
        "underruns": run.underruns,
        "problems": run.problems,
        "watchers_core_percent": round(100 * run.watchers_cpu_s / run.wall_s, 2),
        "watcher_saw": seen,
    }


def _figures(turn: Turn) -> dict[str, float]:
    """What is compared. (A direction has no delays if lag had to be worked off in every call.)"""
    delays = {
        f"{direction}_{percent}": turn[direction][percent]
        for direction in DIRECTIONS
        for percent in PERCENTS
    }
    return {COST: turn[COST], **delays}


def _medians(turns: Sequence[Turn]) -> dict[str, float]:
    figures = [_figures(turn) for turn in turns]
    return {name: round(statistics.median(one[name] for one in figures), 4) for name in figures[0]}


def _worse(alone: Sequence[Turn], others: Sequence[Turn]) -> dict[str, list[float]]:
    """By how much, in each round."""
    pairs = [(_figures(one), _figures(two)) for one, two in zip(alone, others, strict=True)]
    return {
        name: [round(after[name] / before[name] - 1, 4) for before, after in pairs]
        for name in pairs[0][0]
    }


def _cell(result: dict[str, Any], kind: str, name: str) -> str:
    values = [_figures(turn)[name] for turn in result["turns"][kind]]
    unit = " %" if name == COST else " ms"
    cell = f"{result['medians'][kind][name]:.2f}{unit} ({min(values):.2f} to {max(values):.2f})"
    if kind == ALONE:
        return cell
    by, rounds = result["worse_by"][kind][name], result["worse_by_in_each_round"][kind][name]
    over = f"; {ALLOWED:.0%} allowed" if kind == WATCHED and by > result["allowed"] else ""
    return f"{cell}: {by:+.1%} ({min(rounds):+.0%} to {max(rounds):+.0%}{over})"
