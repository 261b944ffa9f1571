"""What was looked at, and what was found: for people who want to know what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says what to do; empty if all is well."""

    what: str
    found: str
    mend: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing is to be done."""
        return not self.mend

    def __str__(self) -> str:
        """A line; a second one if something is to be done."""
        line = f"{'ok' if self.is_well else 'MEND':>4}  {self.what}: {self.found}"
        return line if self.is_well else f"{line}\n      -> {self.mend}"
