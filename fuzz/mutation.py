"""The engine that runs everywhere: Hypothesis, changing seeds and making inputs of its own.

It learns nothing from what the code does with an input, and shrinks what it finds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import metadata

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz.outcome import Budget, Failure, Outcome, Progress
from fuzz.targets import Target

NAME = f"Hypothesis {metadata.version('hypothesis')}"

BATCH = 2000
"""Examples of one seed. Hypothesis remembers them all, so a long run is made of many batches."""

MAX_EDITS, MAX_EDIT_BYTES, MAX_ARBITRARY_BYTES = 6, 12, 300

_edits = st.lists(
    st.tuples(
        st.integers(0, 2**16), st.integers(0, MAX_EDIT_BYTES), st.binary(max_size=MAX_EDIT_BYTES)
    ),
    min_size=1,
    max_size=MAX_EDITS,
)
arbitrary = st.binary(max_size=MAX_ARBITRARY_BYTES)


def mutations(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Seeds, changed in a few places."""
    return st.builds(_edited, st.sampled_from(seeds), _edits)


def _edited(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Each edit removes so many bytes at a place, and puts others there."""
    for place, removed, put in edits:
        at = place % (len(seed) + 1)
        seed = seed[:at] + put + seed[at + removed :]
    return seed


def run(target: Target, seeds: Sequence[bytes], budget: Budget, progress: Progress) -> Outcome:
    """Fuzz in this process until the budget is used up or something is found."""
    return _Run(target, seeds, budget, progress).run()


class _Run:
    """The seeds as they are, then batch after batch."""

    def __init__(
        self, target: Target, seeds: Sequence[bytes], budget: Budget, progress: Progress
    ) -> None:
        self._target = target
        self._seeds = seeds
        self._budget = budget
        self._progress = progress
        self._executions = 0
        self._last = b""
        self._began = time.monotonic()

    def run(self) -> Outcome:
        failure = None
        try:
            for seed in self._seeds:
                self._execute(seed)
            while (left := self._left()) > 0:
                self._batch(min(left, BATCH))
                self._progress(self._executions)
        except Exception as error:  # whatever a target raises is a finding
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            failure = Failure(self._last, why)
        return Outcome(self._executions, time.monotonic() - self._began, failure)

    def _left(self) -> int:
        budget = self._budget
        if budget.seconds is not None and time.monotonic() - self._began >= budget.seconds:
            return 0
        return BATCH if budget.executions is None else budget.executions - self._executions

    def _batch(self, examples: int) -> None:
        inputs = mutations(self._seeds) | arbitrary if self._seeds else arbitrary
        batch = given(inputs)(self._execute)
        batch = hypothesis.seed(self._budget.seed + self._executions)(batch)
        settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(batch)()

    def _execute(self, data: bytes) -> None:
        self._executions += 1
        self._last = data
        self._target(data)
