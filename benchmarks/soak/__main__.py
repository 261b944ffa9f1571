"""`./scripts/soak`: many calls for a long time, some in trouble; writes what came of it."""

from __future__ import annotations

import argparse
import datetime
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks import machine
from benchmarks.soak import table
from benchmarks.soak.plan import FAULTS, QUICK, Sizes
from benchmarks.soak.run import Soaked, soak
from benchmarks.sounds import shipped_speech

RESULTS = Path(__file__).resolve().parent.parent / "results" / "soak.json"

_DESCRIPTION = """\
Does anything leak under load and faults, and do other calls notice them?

The bridge runs as shipped, in a process of its own, signatures and one-time tokens included; model
servers' stand-ins in another, many of them, each taking one call; phones here. Everything stays on
this machine (127.0.0.1), and ends by itself after half an hour or so.

  warm-up          short calls, then long ones, with every fault; then what the bridge holds at
                   rest is measured
  without faults   short calls, then long ones: what calls are like when nothing goes wrong
  with faults      short calls, then long ones; every tenth call has one of the faults below
  at rest          until nothing is in progress: what the bridge holds is measured again
  without faults   as before: the machine is not the same all the time

Resident memory, descriptors, sockets and tasks at rest must be back; the calls without a fault must
be the same in both runs: frames lost, doubled, gaps, problems, and the delay of frames in both
directions. Calls in which the machine or a measuring program itself stood still for 40 ms are left
out, in both runs, and counted; the others are compared with those of the same length and whose
phone was as late. Exit code 1 if a criterion isn't met.
"""

_EPILOG = (
    "faults:\n"
    + "".join(f"  {fault}\n" for fault in sorted(FAULTS))
    + """
examples:
  ./scripts/soak                        the whole: 2,000 short calls, then ten minutes
  ./scripts/soak --quick                a minute and a half, to see that it works
  ./scripts/soak --long-minutes 120 --baseline-minutes 60
                                        two hours

A busy machine spoils the delays: two cores are enough for 60 calls if nothing else runs.
"""
)


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 if a criterion isn't met."""
    options = _parser().parse_args(arguments)
    sizes = _sizes(options)
    print(f"{sizes.servers} model servers; {_told(sizes)}", flush=True)
    soaked = uvloop.run(soak(sizes, options.wav, lambda line: print(line, flush=True)))
    results = options.results or (None if options.quick else RESULTS)
    if results is not None:
        _write(results, sizes, soaked)
    measured = soaked.measured
    print(table.render(measured.baseline, measured.with_faults, soaked.verdicts))
    return 0 if soaked.is_met else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./scripts/soak",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, full = parser.add_argument, Sizes()

    def size(name: str, kind: type, what: str) -> None:
        add(f"--{name}", type=kind, metavar="N", help=f"{what} ({getattr(full, _field(name))})")

    size("short-calls", int, "short calls, with faults")
    size("at-once", int, "so many of them at a time")
    size("long-minutes", float, "then long calls, for so many minutes")
    size("long-at-once", int, "so many of them at a time")
    size("fault-every", int, "every so many calls have a fault")
    size("warm-up-calls", int, "short calls before anything is measured")
    size("warm-up-minutes", float, "then long ones, for so many minutes")
    size("baseline-calls", int, "short calls without faults")
    size("baseline-minutes", float, "then long calls without faults")
    add("--quick", action="store_true", help="small sizes; the options above win")
    add("--wav", type=Path, metavar="FILE", default=shipped_speech(), help="speech (default: ours)")
    add(
        "--results", type=Path, metavar="FILE", help="(benchmarks/results/soak.json; --quick: none)"
    )
    return parser


def _field(name: str) -> str:
    return name.replace("-", "_")


def _sizes(options: argparse.Namespace) -> Sizes:
    given = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name in Sizes.__dataclass_fields__
    }
    sizes = replace(QUICK if options.quick else Sizes(), **given)
    if (
        min(sizes.warm_up_calls, sizes.baseline_calls // 2, sizes.short_calls, sizes.fault_every)
        < 1
    ):
        _parser().error("at least one call of each kind, two of those without faults")
    if (
        not 1
        <= min(sizes.at_once, sizes.long_at_once)
        <= max(sizes.at_once, sizes.long_at_once)
        <= 80
    ):
        _parser().error("1 to 80 calls at a time")
    return sizes


def _told(sizes: Sizes) -> str:
    return (
        f"without faults {sizes.baseline_calls} short calls and {sizes.baseline_minutes:g} min of "
        "long ones, half of it before and half after; "
        f"with faults {sizes.short_calls} short calls at {sizes.at_once} at once, then "
        f"{sizes.long_minutes:g} min at {sizes.long_at_once}; a fault in every "
        f"{sizes.fault_every}. call"
    )


def _write(path: Path, sizes: Sizes, soaked: Soaked) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": machine.describe(),
        "sizes": asdict(sizes),
        **soaked.as_json(),
    }
    path.write_bytes(written(document))


def written(document: dict[str, Any]) -> bytes:
    """As a file: each sample, and each call that something happened to, on a line of its own."""

    def lines(content: Any) -> Any:
        if isinstance(content, list):
            return [orjson.Fragment(orjson.dumps(row)) for row in content]
        if isinstance(content, dict):
            return {name: lines(value) for name, value in content.items()}
        return content

    return orjson.dumps(lines(document), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.exit(main())
