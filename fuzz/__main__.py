"""`./scripts/fuzz`: fuzz what reads bytes from outside, write fuzz/results.json."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from fuzz import coverage, mutation, seeds
from fuzz.coverage import CouldNotRun
from fuzz.outcome import Budget, Outcome, Progress
from fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent
EXECUTIONS = 100_000
PROGRESS_S = 10.0

_DESCRIPTION = """\
twilio     frames from Twilio: the JSON of its messages, and their order
model      frames from the model: kinds of messages, their order, text joined into words
audio      the model's audio: Ogg pages, cut anywhere, to the sound that the phone gets

Any input must become events, or one error of the promised kind, or be counted as damage; must
move no state when it is refused; and what is kept and given out is bounded (fuzz/targets.py). An
input that breaks this is saved, and the exit code is 1.
"""

_EPILOG = """\
examples:
  ./scripts/fuzz                                  every target, a few minutes
  ./scripts/fuzz --executions 2000000             the long run, an hour or so
  ./scripts/fuzz twilio --seconds 60 --corpus corpus
                                                  one target; what is learned is kept in corpus/
  ./scripts/fuzz --replay fuzz/failures/twilio-0123456789ab
                                                  see a failure again, with its traceback
"""


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 if anything was found, 2 if nothing could be run."""
    options = _parser().parse_args(arguments)
    if unknown := set(options.targets) - TARGETS.keys():
        _parser().error(f"{min(unknown)!r} is none of {', '.join(TARGETS)}")
    if options.replay is not None:
        return _replay(options.replay, options.targets)
    try:
        outcomes = _fuzz(options)
    except CouldNotRun as error:
        print(f"the fuzzer could not run:\n{error}", file=sys.stderr)
        return 2
    _write(options.results, _described(options, outcomes))
    print(_table(outcomes))
    return 1 if any(found.failure for found in outcomes.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./scripts/fuzz",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (default: all)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--executions", type=int, metavar="N", help=f"of each target (default: {EXECUTIONS:,})"
    )
    length.add_argument("--seconds", type=float, metavar="S", help="for each target")
    add("--seed", type=int, default=1, metavar="N", help="another number, other inputs")
    add("--corpus", type=Path, metavar="DIR", help="keep inputs that reach something new (atheris)")
    add("--engine", choices=("atheris", "hypothesis"), help="default: atheris, where installed")
    add("--replay", type=Path, metavar="FILE", help="run a saved input, and nothing else")
    add("--results", type=Path, default=ROOT / "fuzz" / "results.json", metavar="FILE")
    add("--failures", type=Path, default=ROOT / "fuzz" / "failures", metavar="DIR")
    return parser


def _fuzz(options: argparse.Namespace) -> dict[str, Outcome]:
    executions = options.executions
    if executions is None and options.seconds is None:
        executions = EXECUTIONS
    budget = Budget(executions, options.seconds, options.seed)
    print(f"engine: {_engine(options)}; seed {options.seed}", flush=True)
    outcomes = {}
    for name in options.targets or TARGETS:
        progress = _progress_of(name)
        begin = seeds.of(name)
        if _uses_atheris(options):
            outcomes[name] = coverage.run(name, begin, budget, options.corpus, progress)
        else:
            outcomes[name] = mutation.run(TARGETS[name], begin, budget, progress)
        _save(options.failures, name, outcomes[name])
    return outcomes


def _uses_atheris(options: argparse.Namespace) -> bool:
    return (options.engine or "atheris") == "atheris" and (
        coverage.is_available() or options.engine is not None
    )


def _engine(options: argparse.Namespace) -> str:
    return coverage.name() if _uses_atheris(options) else mutation.NAME


def _progress_of(target: str) -> Progress:
    """Tells of the target's progress every ten seconds."""
    began = last = time.monotonic()

    def tell(executions: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_S:
            last = now
            pace = executions / (now - began)
            print(f"{target}: {executions:,} executions, {pace:,.0f} a second", flush=True)

    return tell


def _table(outcomes: dict[str, Outcome]) -> str:
    rows = [f"{'target':<10}{'executions':>12}{'seconds':>9}{'failures':>10}"]
    for name, found in outcomes.items():
        failures = int(found.failure is not None)
        rows.append(f"{name:<10}{found.executions:>12,}{found.seconds:>9.0f}{failures:>10}")
    return "\n".join(rows)


def _save(folder: Path, target: str, outcome: Outcome) -> None:
    """Keep the input that failed, if one did."""
    if outcome.failure is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{hashlib.sha256(outcome.failure.data).hexdigest()[:12]}"
    path.write_bytes(outcome.failure.data)
    print(f"{target}: {outcome.failure.why}")
    print(f"see it again: ./scripts/fuzz --replay {path}", flush=True)


def _replay(path: Path, targets: list[str]) -> int:
    """Run one saved input; its name tells the target, unless one is given."""
    name = targets[0] if targets else path.name.partition("-")[0]
    if name not in TARGETS:
        print(f"{path.name} is named for no target: say which, of {', '.join(TARGETS)}")
        return 2
    TARGETS[name](path.read_bytes())
    print(f"{name}: nothing wrong with {path.name}")
    return 0


def _described(options: argparse.Namespace, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "engine": _engine(options),
        "seed": options.seed,
        "machine": machine.describe(),
        "targets": {
            name: {
                "executions": outcome.executions,
                "seconds": round(outcome.seconds, 1),
                "failure": outcome.failure.why if outcome.failure else None,
            }
            for name, outcome in outcomes.items()
        },
    }


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
