"""Call history: what is kept of calls in a database, found again, exported and deleted.

`keeping.keep_history` is for a bridge, `store.open_history` for whoever only reads or deletes.
These modules import the packages of the extra `history`: call `check_packages` before.
"""

from __future__ import annotations

from importlib.util import find_spec

from personaplex_bridge.errors import HistoryUnavailable

_PACKAGES = ("sqlalchemy", "aiosqlite", "asyncpg", "alembic", "greenlet")


def check_packages() -> None:
    """Raises HistoryUnavailable if the extra isn't installed; says how to mend it."""
    for name in _PACKAGES:
        if not _is_installed(name):
            raise HistoryUnavailable(
                f"the call history needs packages that aren't installed ({name}); "
                "type: pip install 'personaplex-bridge[history]'"
            )


def _is_installed(name: str) -> bool:
    """Without importing it, which may take a second."""
    try:
        return find_spec(name) is not None
    except ValueError:  # it is there, but barred
        return False
