"""All cases, in the order of the table."""

from __future__ import annotations

from tests.attacks import consoles, over_http, pages, slow, streams, who
from tests.attacks.scene import ATTACKS

_ORDER = [module.__name__ for module in (who, pages, streams, slow, over_http, consoles)]

CASES = sorted(ATTACKS, key=lambda case: _ORDER.index(case.make.__module__))
