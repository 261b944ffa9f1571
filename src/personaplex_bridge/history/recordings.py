"""The recordings of calls, as the history knows them: each call's figures name a file.

What a database says is no reason to open or delete just anything: of a name only the last two parts
count, which must be DATE/TIME-CALLSID.opus, inside the folder that the settings name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personaplex_bridge.errors import HistoryError

_NAME = re.compile(r"(?:.*/)?(\d{4}-\d\d-\d\d/[\w.-]+\.opus)", re.ASCII | re.DOTALL)


class Recordings:
    """Those in a folder. Methods block, for as long as the disk does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str) -> Path | None:
        """Where a recording is; None if it is gone. What a bridge left that died can be played up
        to there.
        """
        found = [path for path in self._places(name) if path.is_file() and not path.is_symlink()]
        return found[-1] if found else None

    def delete(self, name: str) -> bool:
        """Delete a recording, also one that isn't complete; whether there was one.

        Raises:
            HistoryError: it can't be deleted.
        """
        # The incomplete one first: if it gets its name just now, it is found by that.
        return sum(_unlink(path) for path in self._places(name)) > 0

    def _places(self, name: str) -> tuple[Path, ...]:
        match = _NAME.fullmatch(name)
        if match is None:
            return ()
        path = self._folder / match[1]
        return path.with_name(f"{path.name}.part"), path


class Removal:
    """The recordings of calls that are being deleted. Each is tried once; in `failures` is why
    some are still there. `recordings` is None if nobody knows where they are.
    """

    def __init__(self, recordings: Recordings | None) -> None:
        self.gone = 0
        self.missing = 0
        self.failures: list[HistoryError] = []
        self._recordings = recordings
        self._known: dict[str, bool] = {}

    async def remove(self, figures: Mapping[str, Any]) -> bool:
        """Delete the recording that a call's figures name; whether the call has none any more."""
        name = str(figures.get("recording") or "")
        if name and name not in self._known:
            self._known[name] = await self._try(name)
        return not name or self._known[name]

    async def _try(self, name: str) -> bool:
        if self._recordings is None:
            self.missing += 1
            return True
        try:
            is_gone = await asyncio.to_thread(self._recordings.delete, name)
        except HistoryError as error:
            self.failures.append(error)
            return False
        self.gone += is_gone
        self.missing += not is_gone
        return True


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HistoryError(f"can't delete {path}: {error.strerror}") from error
    return True
