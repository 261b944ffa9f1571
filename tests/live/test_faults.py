"""Each fault comes to what docs/reliability.md says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.faults import table
from tests.faults.cases import CASES
from tests.faults.ear import gist, seconds_in, without_seconds
from tests.faults.scene import Case, Row, play, play_all


@pytest.fixture(autouse=True)
def _without_a_log() -> Iterator[None]:
    """Kept log records hold on to errors, and these to all of a call: it would seem left behind."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def named(case: Case) -> str:
    return f"{case.side} {case.name}"


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """Those of the faults that take real time."""
    return {row.name: row for row in play_all([case for case in CASES if case.real is not None])}


def committed(case: Case) -> str:
    missing = "run ./scripts/faults --write"
    return table.TABLE.committed().get(named(case), missing)


@pytest.mark.parametrize("case", [case for case in CASES if case.real is None], ids=named)
def test_a_fault(case: Case) -> None:
    told = play(case)
    assert told.left == "nothing"
    if case.is_private:
        assert told.other == "the same"
    row, expected = table.row(told), committed(case)
    assert without_seconds(row) == without_seconds(expected)
    assert seconds_in(row) == pytest.approx(seconds_in(expected), abs=0.3)


@pytest.mark.xdist_group("faults in real time")  # or each process would play them all
@pytest.mark.parametrize("case", [case for case in CASES if case.real is not None], ids=named)
def test_a_fault_in_real_time(case: Case, rows: dict[str, Row]) -> None:
    told = rows[case.name]
    assert told.left == "nothing"
    _, heard, ended, *_ = committed(case).split(" | ")
    assert gist(told.heard) == gist(heard)
    assert told.ended == ended


def test_the_table_has_these_faults_and_no_others() -> None:
    assert list(table.TABLE.committed()) == [named(case) for case in CASES]
    assert len(CASES) >= 40
