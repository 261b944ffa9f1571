"""What is logged."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from personaplex_bridge.logs import NAME


@contextmanager
def logged(formatter: logging.Formatter | None = None) -> Iterator[io.StringIO]:
    """All lines of the block that are no DEBUG: as they are made, unless a formatter is given."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter)
    ours, root = logging.getLogger(NAME), logging.getLogger()
    before = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)
