"""Each fault comes to what docs/reliability.md says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.faults import table
from tests.faults.cases import CASES
from tests.faults.ear import without_seconds
from tests.faults.scene import Case, play


@pytest.fixture(autouse=True)
def _without_a_log() -> Iterator[None]:
    """Kept log records hold on to errors, and these to all of a call: it would seem left behind."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


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
