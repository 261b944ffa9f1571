"""Bridges with metrics and traces."""

from __future__ import annotations

from functools import partial

from tests.live import harness

bridge_to = partial(harness.bridge_to, watched=True)
full_line = partial(harness.full_line, watched=True)
