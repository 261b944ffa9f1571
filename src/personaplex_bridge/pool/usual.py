"""Whom the next caller will most likely want to talk to."""

from __future__ import annotations

from collections import Counter, deque

from personaplex_bridge.personaplex.voices import Role

REMEMBERED_CALLS = 20
USUAL_CALLS = 3
"""The role that most of the last 20 calls had is the usual one, from 3 calls on."""


class UsualRole:
    """The role of most of the last calls; the default, if none had more. No default, no role."""

    def __init__(self, default: Role | None) -> None:
        self._default = default
        self._roles: deque[Role] = deque(maxlen=REMEMBERED_CALLS)

    def note(self, role: Role) -> None:
        """A caller asked for it."""
        self._roles.append(role)

    def retire(self) -> None:
        """Nobody will call any more."""
        self._default = None

    @property
    def role(self) -> Role | None:
        """Whom to keep a line warm for."""
        if self._default is None or not self._roles:
            return self._default
        counts = Counter(self._roles)
        role, calls = counts.most_common(1)[0]
        usual = calls >= USUAL_CALLS and calls > counts[self._default]
        return role if usual else self._default
