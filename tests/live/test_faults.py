"""Each fault comes to what docs/reliability.md says."""

from __future__ import annotations

import pytest

from tests.faults import table
from tests.faults.cases import CASES
from tests.faults.ear import without_seconds
from tests.faults.scene import Case, play


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.side} {case.name}")
def test_a_fault(case: Case) -> None:
    told = play(case)
    assert told.left == "nothing"
    assert told.other == ("the same" if case.is_private else told.other)
    expected = table.TABLE.committed().get(f"{case.side} {case.name}", "./scripts/faults --write")
    assert without_seconds(table.row(told)) == without_seconds(expected)


def test_the_table_has_these_faults_and_no_others() -> None:
    assert list(table.TABLE.committed()) == [f"{case.side} {case.name}" for case in CASES]
    assert len(CASES) >= 40
