"""The table in docs/security.md."""

from __future__ import annotations

from tests import tables
from tests.attacks.scene import Attack, Outcome
from tests.tables import DOCS, Table

TABLE = Table(DOCS / "security.md", "attacks", ("attack", "what was sent", "the answer", "besides"))


def row(case: Attack, outcome: Outcome) -> str:
    """One line of Markdown."""
    return tables.row((case.name, case.sent, outcome.answer, _besides(outcome)))


def _besides(outcome: Outcome) -> str:
    calls = "no call" if not outcome.calls else f"{outcome.calls} call"
    lines = "no line" if not outcome.lines else f"{outcome.lines} line"
    return f"{calls}, {lines}; {outcome.harm or 'other call unharmed'}"
