"""Logging: one line a message, the call's id in front, nothing private at INFO.

Caller numbers, prompts, transcripts and tokens are never put into a message.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, TypeAlias

NAME = "personaplex_bridge"
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


class CallLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that puts `[call N]` in front of every message."""

    def __init__(self, number: int) -> None:
        super().__init__(logging.getLogger(f"{NAME}.call"))
        self._prefix = f"[call {number}]"

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """Prefix the message."""
        return f"{self._prefix} {msg}", kwargs


Log: TypeAlias = logging.Logger | CallLog


def configure(level: str) -> None:
    """Log to standard error at `level`. Libraries speak from WARNING up only."""
    logging.basicConfig(level=logging.WARNING, format=FORMAT)
    logging.getLogger(NAME).setLevel(level)
