"""How many calls a soak makes, and what goes wrong in which of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bad_models import DEEDS

GOLDEN = 0.6180339887
"""Multiples of it, without their whole part, spread evenly however many there are."""

MODEL_FAULTS = tuple(f"model {deed}" for deed in DEEDS)
PHONE_FAULTS = (
    "phone vanishes",
    "phone closes without a stop",
    "phone never opens its stream",
    "phone never sends start",
    "phone floods media",
    "phone sends 200 malformed messages",
    "phone sends a message of 1 MB",
    "phone stops reading and writing for 2 s",
    "phone loses and doubles frames",
    "phone has jitter of up to 120 ms",
)
FAULTS = tuple(
    fault
    for pair in itertools.zip_longest(MODEL_FAULTS, PHONE_FAULTS)
    for fault in pair
    if fault is not None
)
"""In turn one of the model's and one of the phone's."""

USUAL_EVERY = 9
"""Every so many calls ask for nothing special, so that they get the line that is kept warm."""
MAX_SERVERS = 100
SPARE_SERVERS = 30
"""For calls whose model fails, and those that hold a server without being there."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that is to be made."""

    number: int
    fault: str | None
    length_s: float
    fault_at_s: float
    is_usual: bool = False
    """Asks for no prompt of its own."""

    @property
    def model_deed(self) -> str | None:
        """What its model is told to do."""
        side, _, deed = (self.fault or "").partition(" ")
        return deed if side == "model" else None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done. Defaults are the full soak's."""

    warm_up_calls: int = 1200
    """With every fault, and as many at once as ever: what Python and libc keep of that is not
    given back. With 400 calls it still grew by 6 MB in the next 2,000 (several faults at the same
    moment take the most), and then no more: it stayed within 0.4 MB for the last ten minutes."""
    warm_up_minutes: float = 2.0
    """And then of long ones: they hold more than short ones do, and what that leaves between them
    is not given back either."""
    baseline_calls: int = 600
    """Half of the baseline comes before the faults, and half after: what else the machine does
    changes within half an hour."""
    baseline_minutes: float = 6.0
    short_calls: int = 2000
    at_once: int = 50
    long_minutes: float = 10.0
    long_at_once: int = 60
    fault_every: int = 10
    short_s: tuple[float, float] = (3.5, 4.5)
    long_s: tuple[float, float] = (30.0, 60.0)
    after_fault_s: float = 8.0
    """A call goes on for so long after its fault: a model that says nothing is given up after 5."""
    spread_s: float = 2.0
    """The first calls of a phase begin within so long."""
    rest_s: float = 5.0
    """How long all is left alone when it is over, before it is measured."""
    faults: tuple[str, ...] = FAULTS

    @property
    def servers(self) -> int:
        """How many model servers it takes."""
        return min(MAX_SERVERS, max(self.at_once, self.long_at_once) + SPARE_SERVERS)


QUICK = Sizes(
    warm_up_calls=60,
    warm_up_minutes=0.1,
    baseline_calls=40,
    baseline_minutes=0.15,
    short_calls=80,
    at_once=20,
    long_minutes=0.25,
    long_at_once=20,
    fault_every=4,
    long_s=(5.0, 10.0),
)
"""About a minute and a half: whether it works at all."""


class Plan:
    """The calls to be made, numbered through from 1."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._numbers = itertools.count(1)
        self._troubled = itertools.cycle(sizes.faults)

    def short(self, *, with_faults: bool) -> Iterator[Call]:
        """Short calls, without end."""
        return self._calls(self._sizes.short_s, 1.0, with_faults)

    def long(self, *, with_faults: bool) -> Iterator[Call]:
        """Long calls, without end."""
        return self._calls(self._sizes.long_s, 5.0, with_faults)

    def _calls(
        self, length_s: tuple[float, float], fault_at_s: float, with_faults: bool
    ) -> Iterator[Call]:
        for place in itertools.count(1):
            number = next(self._numbers)
            least_s, most_s = length_s
            this_s = least_s + (most_s - least_s) * (number * GOLDEN % 1)
            if with_faults and place % self._sizes.fault_every == 0:
                at_least_s = fault_at_s + self._sizes.after_fault_s
                yield Call(number, next(self._troubled), max(this_s, at_least_s), fault_at_s)
            else:
                yield Call(number, None, this_s, 0.0, is_usual=place % USUAL_EVERY == 1)
