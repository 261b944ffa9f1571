"""How each model server fares, by what its connections come to: a circuit for each.

    state       what was seen                             next
    CLOSED      a failure, the third in a row             OPEN
    OPEN        a plain GET was answered, after a pause   HALF_OPEN
    OPEN        a handshake                               CLOSED
    HALF_OPEN   a failure                                 OPEN
    HALF_OPEN   a handshake                               CLOSED

CLOSED is how it should be. An OPEN server gets no calls, unless one in progress has nowhere else
to go; a HALF_OPEN one gets one connection, to see: a warm line, if no other is warm, or else that
of a caller who finds no better server. A failure is a connection that was refused,
died, or got no handshake in time, or a plain GET that wasn't answered as it should be.
"""

from __future__ import annotations

import logging
import random
from enum import Enum, StrEnum, auto

from personaplex_bridge import logs
from personaplex_bridge.errors import ModelUnavailable

FAILURES = 3
"""In a row, before a circuit opens."""

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 30.0
"""Pauses before a server that failed is asked again: doubling."""

JITTER = 0.2
"""A pause is up to so much shorter, at random: bridges are not to come all at once."""

TRY_ANYWAY_S = 300.0
"""A circuit that has been open for so long gets a trial whatever a plain GET comes to: a proxy in
front of the server may answer that in its own way. A server that lost its last calls is as good
as others again after so long.
"""

_log = logging.getLogger(logs.NAME)


class Circuit(StrEnum):
    """Whether a server gets connections."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Seen(Enum):
    """What was seen of a server."""

    FAILED = auto()
    WORN_OUT = auto()
    """Failed, and not for the first two times in a row."""
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
        """Whether it failed when it was last seen."""
        self.last_failure: str | None = None
        """The class of the last error."""
        self.ask_at_s: float | None = None
        """When to ask it with a plain GET; None: there is no need."""
        self._name = name
        self._dice = dice
        self._failures = self._calls_lost = 0
        self._opened_s = self._lost_s = 0.0

    @property
    def rank(self) -> int:
        """How bad it would be to send a call there: 0 is good.

        Once three calls in a row have lost their lines a handshake isn't enough for 0: warm lines
        would bring every caller there. A call must have gone well, or five minutes have passed.
        """
        if self.circuit is Circuit.CLOSED:
            return int(self.is_down or self._calls_lost >= FAILURES)
        return 2 if self.circuit is Circuit.HALF_OPEN else 3

    def failed(self, error: BaseException, now_s: float, *, in_call: bool = False) -> None:
        """A connection failed, `in_call` when a call had it, ready; or a plain GET got no good
        answer.
        """
        self._failures += 1
        if in_call:
            self._calls_lost, self._lost_s = self._calls_lost + 1, now_s
        self._note(error, now_s, min(RETRY_FIRST_S * 2.0 ** (self._failures - 1), RETRY_MAX_S))
        self._see(Seen.WORN_OUT if self._failures >= FAILURES else Seen.FAILED)

    def failed_idle(self, error: BaseException, now_s: float) -> None:
        """A line that had stood without a call is gone. The server is asked soon, but that isn't
        one in a row: some proxies end every connection after an hour.
        """
        self._note(error, now_s, RETRY_FIRST_S)
        self._see(Seen.FAILED)

    def no_answer(self, error: ModelUnavailable, now_s: float) -> None:
        """A plain GET got no good answer."""
        if self.circuit is Circuit.OPEN and now_s - self._opened_s >= TRY_ANYWAY_S:
            self.alive()
        else:
            self.failed(error, now_s)

    def alive(self) -> None:
        """It answers a plain GET. That it takes calls is not yet said, if it was reached before."""
        self.ask_at_s = None
        if self.last_failure == ModelUnavailable.__name__ and self.circuit is Circuit.CLOSED:
            self._recovered()
        self._see(Seen.ALIVE)

    def shook_hands(self) -> None:
        """A connection is ready."""
        self.ask_at_s = None
        self._recovered()
        self._see(Seen.SHOOK_HANDS)

    def stood(self) -> None:
        """A call's connection was good for a while: the next failure is the first."""
        self._failures = self._calls_lost = 0

    def forgive(self, now_s: float) -> None:
        """Let a caller try a server again whose last calls were lost, when that is long ago."""
        if self._calls_lost >= FAILURES and now_s - self._lost_s >= TRY_ANYWAY_S:
            self._calls_lost = FAILURES - 1

    def _note(self, error: BaseException, now_s: float, pause_s: float) -> None:
        if not self.is_down:
            _log.warning("%s failed: %s", self._name, error)
        self.is_down = True
        self.last_failure = type(error).__name__
        self.ask_at_s = now_s + pause_s * self._dice.uniform(1 - JITTER, 1)
        if self.circuit is not Circuit.OPEN:
            self._opened_s = now_s

    def _recovered(self) -> None:
        if self.is_down:
            _log.info("%s answers again", self._name)
        self.is_down = False

    def _see(self, seen: Seen) -> None:
        before, self.circuit = self.circuit, _TRANSITIONS.get((self.circuit, seen), self.circuit)
        if before is not self.circuit:
            _log.info("%s: circuit %s", self._name, self.circuit)
