"""Reading settings from an environment, and telling all that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from personaplex_bridge.errors import WrongValue

T = TypeVar("T")


class Reader:
    """Reads one variable at a time and remembers what was wrong, to tell it all at once.

    The values of `secrets` are never shown.
    """

    def __init__(self, environ: Mapping[str, str], secrets: Collection[str] = ()) -> None:
        self.wrong: list[WrongValue] = []
        self._environ = environ
        self._secrets = secrets

    def get(self, variable: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value. `parse` raises ValueError with what is allowed."""
        value = self._environ.get(variable, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError as error:
            hidden = variable in self._secrets or "@" in value  # user:password@
            shown = "(hidden)" if hidden else value
            self.wrong.append(WrongValue(variable, shown, str(error)))
            return default
