"""When the model fails in a call: whether to try again, and as whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from personaplex_bridge.errors import HandshakeTimeout, ModelBusy, ModelError, PersonaError
from personaplex_bridge.personaplex.voices import Role

RECOVER_S = 5.0
"""How long after the caller lost the model an attempt to get one may still begin."""
MAX_RECOVERIES = 3
"""In one call. A call that loses its model more often is better ended."""
LAST_ATTEMPT_S = 10.0
"""How long one more attempt may take after a server that didn't shake hands in time: as long as a
usual prompt takes, so that another server can do it, and the caller doesn't wait for ever.
"""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 1.0
"""Between attempts that fail at once, doubling."""
RECAP_WORDS = 60
"""What was said last: each token costs the model a step of 55 ms before it answers."""


class Recovery:
    """Whether a call that has no model may try to get one. Times are seconds, monotonic.

    The caller is without a model from the call's beginning, or from a failure, until a line is
    ready. Attempts may begin within `RECOVER_S` of that; one that has begun goes on to its own
    deadline. After a server that takes prompts and doesn't shake hands there is one more.
    """

    def __init__(self, began_s: float) -> None:
        self.recoveries = 0
        self._lost_s: float | None = began_s
        self._pause_s = FIRST_PAUSE_S
        self._had_model = False
        self.attempt_s: float | None = None
        """How long the next attempt may take; None: as long as the pool lets it."""

    def ready(self) -> None:
        """The caller has a model."""
        self._lost_s, self._pause_s, self._had_model = None, FIRST_PAUSE_S, True
        self.attempt_s = None

    def pause_s(self, error: ModelError, now_s: float) -> float | None:
        """How long to wait before the next attempt after `error`; None if there is to be none."""
        if isinstance(error, ModelBusy) and not self._had_model:
            return None  # not a failure, and the webhook has asked for a line already
        if self._lost_s is None:
            self._lost_s = now_s
            self.recoveries += 1
            return 0.0 if self.recoveries <= MAX_RECOVERIES else None
        if self.attempt_s is not None:
            return None
        if isinstance(error, HandshakeTimeout):
            self.attempt_s = LAST_ATTEMPT_S
            return 0.0
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, MAX_PAUSE_S)
        return pause_s if now_s + pause_s <= self._lost_s + RECOVER_S else None


def with_recap(role: Role, words: Iterable[str]) -> Role:
    """The role, told in its prompt what it said last; without words, or where the prompt would
    become too long for the server, with as many of them as fit.
    """
    said = list(words)[-RECAP_WORDS:]
    while said:
        recap = (
            f"{role.text_prompt} You are in the middle of a conversation that was cut off for a "
            f"moment. The last you said was: {' '.join(said)}"
        )
        try:
            return replace(role, text_prompt=recap)
        except PersonaError:
            said = said[len(said) // 2 + 1 :]
    return role
