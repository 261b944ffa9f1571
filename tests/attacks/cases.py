"""All cases, in the order of the table."""

from __future__ import annotations

from tests.attacks import over_http, slow, streams, who
from tests.attacks.scene import ATTACKS

_ORDER = [module.__name__ for module in (who, streams, slow, over_http)]

CASES = sorted(ATTACKS, key=lambda case: _ORDER.index(case.make.__module__))
