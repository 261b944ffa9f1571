"""Every fault that docs/reliability.md tells of."""

from __future__ import annotations

from tests.faults import bridge_cases, model_cases, redis_cases, twilio_cases
from tests.faults.scene import Case

CASES: list[Case] = [
    *model_cases.CASES,
    *twilio_cases.CASES,
    *bridge_cases.CASES,
    *redis_cases.CASES,
]
