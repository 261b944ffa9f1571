"""What one target came to, whichever engine drove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Progress: TypeAlias = Callable[[int], None]
"""Called now and then with the number of executions so far."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a target is fuzzed: until either is used up. `seed` makes a run repeatable."""

    executions: int | None
    seconds: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that broke the rule, and what was seen then."""

    data: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One target's run; an engine stops at the first failure."""

    executions: int
    seconds: float
    failure: Failure | None = None
