"""The table in docs/reliability.md."""

from __future__ import annotations

from tests import tables
from tests.faults.scene import Row
from tests.tables import DOCS, Table

TABLE = Table(
    DOCS / "reliability.md",
    "faults",
    ("fault", "the caller hears", "how it ended", "the other call", "left behind"),
)


def row(told: Row) -> str:
    """One line of Markdown."""
    name = f"{told.side} {told.name}"
    return tables.row((name, told.heard, told.ended, told.other, told.left))
