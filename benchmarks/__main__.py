"""`./scripts/bench`: measure, write JSON into benchmarks/results/, renew the README's table."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import fidelity, gate, history, load, machine, relay, table, timing, watched
from benchmarks.load import Load
from benchmarks.sounds import shipped_speech
from benchmarks.watcher_process import WATCHERS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

LOAD_TRIES = 5

WHAT = ("load", "fidelity", "timing", "gate", "history", "relay", "watched", "table")

_DESCRIPTION = """\
load       cost (core share, memory) and added delay of the bridge at 1, 10 and 50 calls,
           beside the bare codec's cost; also 1 and 2 packets a page, and the soxr path
fidelity   PESQ and STOI of both directions against mu-law alone
timing     set-up with a warm line and without, stalls, jitter, interruptions, half an hour:
           calls in virtual time between the stand-ins, with the bridge's timing and without
gate       what the noise gate silences and loses in four noises, its cost, and the voice
           detectors it was chosen from
history    searches of 100,000 calls in SQLite and in PostgreSQL, and what writing does to the
           event loop
relay      what the gate in front of a model server costs, and how much later frames come for it
watched    what a console that is open and a Prometheus that scrapes cost at 50 calls, and a call
           history beside: interleaved turns with and without; exit code 1 if the first two cost
           over 10 %
table      only write the README's table anew from the results there are
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./scripts/bench",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(WHAT)} (default: all)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each load")
    parser.add_argument("--turns", type=int, default=6, help="turns of each kind, of `watched`")
    parser.add_argument("--calls", type=int, default=50, help="calls of `watched`")
    parser.add_argument(
        "--watcher",
        choices=WATCHERS,
        default="events",
        help="of `watched`: events asks for what the console's page asks for, page is a Chromium",
    )
    parser.add_argument("--wav", type=Path, action="append", help="speech (default: ours)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    what = arguments.what or list(WHAT)
    if unknown := set(what) - set(WHAT):
        parser.error(f"{min(unknown)!r} is none of {', '.join(WHAT)}")
    sounds = arguments.wav or [shipped_speech()]
    if "load" in what:
        _write(arguments.results / "load.json", {"loads": _loads(sounds[0], arguments.seconds)})
    if "fidelity" in what:
        recordings = []
        for sound in sounds:
            print(f"fidelity of {sound.name} ...", flush=True)
            recordings.append(fidelity.measure(sound))
        result = {"algorithmic_delay_ms": fidelity.delays(), "recordings": recordings}
        _write(arguments.results / "fidelity.json", result)
    if "timing" in what:
        _write(arguments.results / "timing.json", timing.measure(sounds[0]))
    if "gate" in what:
        _write(arguments.results / "gate.json", gate.measure(sounds))
    if "history" in what:
        _write(arguments.results / "history.json", history.measure())
    if "relay" in what:
        result = asyncio.run(relay.measure(arguments.seconds, sounds[0]))
        _write(arguments.results / "relay.json", result)
    is_good = True
    if "watched" in what:
        plan = load.Load(arguments.calls, arguments.seconds, words=True)
        result = watched.measure(plan, sounds[0], arguments.turns, arguments.watcher)
        _write(arguments.results / "watched.json", result)
        print(watched.render(result))
        is_good = watched.is_good(result)
    if arguments.results == RESULTS:
        table.write_into(ROOT / "README.md", RESULTS)
    print(table.render(arguments.results))
    if not is_good:
        raise SystemExit(1)


def _loads(sound: Path, seconds: float) -> list[dict[str, Any]]:
    plans = [
        Load(1, seconds),
        Load(10, seconds),
        Load(50, seconds),
        Load(50, seconds, packets_per_page=2),
        Load(50, seconds, packets_per_page=1),
        Load(50, seconds, transcoder="soxr"),
    ]
    results = []
    for number, plan in enumerate(plans, start=1):
        print(f"load {number} of {len(plans)}: {plan} ...", flush=True)
        results.append(_load(plan, sound))
    return results


def _load(plan: Load, sound: Path) -> dict[str, Any]:
    """A load; once more if the machine was not calm."""
    for _ in range(LOAD_TRIES):
        try:
            return uvloop.run(load.measure(plan, sound))
        except load.NotCalm as error:
            print(f"{error} Once more ...", flush=True)
    raise SystemExit(f"{LOAD_TRIES} times not calm: {plan}")


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    document = {"date": date, "machine": machine.describe(), **result}
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
