"""Each attack is answered as docs/security.md says, and harms nobody."""

from __future__ import annotations

import pytest

from tests.attacks import table
from tests.attacks.cases import CASES
from tests.attacks.scene import Attack, run
from tests.virtual import run_cleanly


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attack(case: Attack) -> None:
    outcome = run_cleanly(run(case))
    assert not outcome.harm
    expected = table.TABLE.committed().get(case.name, "run ./scripts/attacks --write")
    assert table.row(case, outcome) == expected


def test_the_table_has_these_attacks_and_no_others() -> None:
    assert list(table.TABLE.committed()) == [case.name for case in CASES]
    assert len(CASES) >= 25
