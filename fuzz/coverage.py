"""The engine for Linux on x86-64: atheris, which is libFuzzer for Python.

It sees which branches an input takes and what strings and numbers are compared with, and builds
on the inputs that reach something new. libFuzzer ends its process at the first failure, memory
beyond a bound or an input that takes too long included; so each target has a process of its own,
`python -m fuzz.coverage TARGET [LIBFUZZER ARGUMENT ...]`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.outcome import Budget, Failure, Outcome, Progress

ROOT = Path(__file__).resolve().parent.parent

MAX_INPUT_BYTES = 2048
"""Longest input made. Sockets take messages of 64 KiB, but short ones find more in the time."""
MAX_MEMORY_MB = 1024
"""The process with its libraries has 60 MB or so: beyond this, something grows."""
MAX_INPUT_S = 10
"""An input that takes longer is a failure."""

_COUNT = re.compile(r"#(\d+)\s|stat::number_of_executed_units: (\d+)")
_TAIL_LINES = 60
_WHY = "Uncaught Python exception"


class CouldNotRun(Exception):
    """The fuzzer ended without a result; the message is what it printed."""


def is_available() -> bool:
    """Whether atheris is installed."""
    return util.find_spec("atheris") is not None


def name() -> str:
    """The engine and its version."""
    return f"atheris {metadata.version('atheris')} (libFuzzer)"


def run(
    target: str, seeds: Sequence[bytes], budget: Budget, corpus: Path | None, progress: Progress
) -> Outcome:
    """Fuzz in a child process until the budget is used up or something is found.

    `corpus` keeps the inputs that reach something new, for the next run to begin with.

    Raises:
        CouldNotRun: the fuzzer itself failed.
    """
    with TemporaryDirectory() as scratch:
        found, begin = Path(scratch, "found"), Path(scratch, "seeds")
        kept = corpus / target if corpus is not None else Path(scratch, "corpus")
        for folder in (found, begin, kept):
            folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (begin / f"seed-{number:02}").write_bytes(seed)
        options = _options(budget, found)
        command = [sys.executable, "-m", "fuzz.coverage", target, *options, str(kept), str(begin)]
        return watch(command, found, progress)


def _options(budget: Budget, found: Path) -> list[str]:
    limits = {
        "runs": budget.executions,
        "max_total_time": None if budget.seconds is None else max(1, round(budget.seconds)),
    }
    options = {
        **{name: value for name, value in limits.items() if value is not None},
        "seed": budget.seed or 1,  # 0 would mean a random one
        "max_len": MAX_INPUT_BYTES,
        "rss_limit_mb": MAX_MEMORY_MB,
        "timeout": MAX_INPUT_S,
        "artifact_prefix": f"{found}/",
        "print_final_stats": 1,
    }
    return [f"-{name}={value}" for name, value in options.items()]


def watch(command: Sequence[str], found: Path, progress: Progress) -> Outcome:
    """Let a fuzzer's process run to its end; it leaves what it finds in the folder `found`."""
    began = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        executions, tail = _follow(process.stdout, progress)
    seconds = time.monotonic() - began
    # A slow input is told of, too, but is no failure.
    kinds = ("crash-*", "timeout-*", "oom-*")
    artifacts = [path for kind in kinds for path in found.glob(kind)]
    if artifacts:
        why = _why(tail) or artifacts[0].name.partition("-")[0]
        return Outcome(executions, seconds, Failure(artifacts[0].read_bytes(), why))
    if process.returncode != 0:
        raise CouldNotRun("".join(tail))
    return Outcome(executions, seconds)


def _follow(output: Iterable[str], progress: Progress) -> tuple[int, deque[str]]:
    """How many executions libFuzzer tells of in the end, and its last lines."""
    executions, tail = 0, deque[str](maxlen=_TAIL_LINES)
    for line in output:
        tail.append(line)
        if told := _COUNT.match(line):
            executions = int(told[1] or told[2])
            progress(executions)
    return executions, tail


def _why(tail: Iterable[str]) -> str:
    """The line that names the exception, if it was one of Python's."""
    lines = iter(tail)
    return next((next(lines, "").strip() for line in lines if _WHY in line), "")


def _main(target: str, *arguments: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["personaplex_bridge"]):
        from fuzz.targets import TARGETS

    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    _main(*sys.argv[1:])
