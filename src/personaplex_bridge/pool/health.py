"""How each model server fares, by what its connections come to: a circuit for each.

    state       what was seen                         next
    CLOSED      a failure, the third in a row         OPEN
    OPEN        a plain GET is answered, after a pause   HALF_OPEN
    OPEN        a handshake                           CLOSED
    HALF_OPEN   a failure                             OPEN
    HALF_OPEN   a handshake                           CLOSED

CLOSED is how it should be. An OPEN server gets no calls, unless a call in progress has nowhere
else to go; a HALF_OPEN one gets one connection, to see.
"""

from __future__ import annotations

import logging
import random
from enum import Enum, StrEnum, auto

from personaplex_bridge import logs

FAILURES = 3
"""In a row, before a circuit opens."""

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 30.0
"""Pauses before the next attempt: doubling, and up to a fifth shorter at random."""

JITTER = 0.2

_log = logging.getLogger(logs.NAME)


class Circuit(StrEnum):
    """Whether a server gets connections."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Seen(Enum):
    """What is seen of a server."""

    FAILED = auto()
    WORN_OUT = auto()
    """Failed, and it was the third time in a row."""
    ALIVE = auto()
    """Answered a plain GET."""
    SHOOK_HANDS = auto()


_TRANSITIONS: dict[tuple[Circuit, Seen], Circuit] = {
    (Circuit.CLOSED, Seen.WORN_OUT): Circuit.OPEN,
    (Circuit.OPEN, Seen.ALIVE): Circuit.HALF_OPEN,
    (Circuit.OPEN, Seen.SHOOK_HANDS): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Seen.FAILED): Circuit.OPEN,
    (Circuit.HALF_OPEN, Seen.WORN_OUT): Circuit.OPEN,
    (Circuit.HALF_OPEN, Seen.SHOOK_HANDS): Circuit.CLOSED,
}


class Health:
    """One server's. `name` is what logs call it. Times are the pool's."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.circuit = Circuit.CLOSED
        self.is_down = False
        """Whether the last thing seen of it was a failure."""
        self.last_failure: str | None = None
        """The class of the last error."""
        self.retry_at_s = 0.0
        """No attempt before, but for calls."""
        self._name = name
        self._dice = dice
        self._failures = 0

    @property
    def rank(self) -> int:
        """How bad it would be to send a call there: 0 is good."""
        if self.circuit is Circuit.CLOSED:
            return int(self.is_down)
        return 2 if self.circuit is Circuit.HALF_OPEN else 3

    def failed(self, error: BaseException, now_s: float) -> None:
        """A connection failed, died or timed out."""
        self._failures += 1
        self.last_failure = type(error).__name__
        if not self.is_down:
            _log.warning("%s failed: %s", self._name, error)
        self.is_down = True
        pause_s: float = min(RETRY_FIRST_S * 2.0 ** (self._failures - 1), RETRY_MAX_S)
        self.retry_at_s = now_s + pause_s * self._dice.uniform(1 - JITTER, 1)
        self._see(Seen.WORN_OUT if self._failures >= FAILURES else Seen.FAILED)

    def shook_hands(self) -> None:
        """A connection is ready."""
        if self.is_down:
            _log.info("%s answers again", self._name)
        self.is_down = False
        self._see(Seen.SHOOK_HANDS)

    def alive(self) -> None:
        """It answers a plain GET."""
        self._see(Seen.ALIVE)

    def stood(self) -> None:
        """A connection was good for a while: the next failure is the first."""
        self._failures = 0

    def _see(self, seen: Seen) -> None:
        before, self.circuit = self.circuit, _TRANSITIONS.get((self.circuit, seen), self.circuit)
        if before is not self.circuit:
            _log.info("%s: circuit %s", self._name, self.circuit)
