"""The recordings of calls, as the history knows them: each call's figures name a file.

What a database says is no reason to open or delete just anything: of a name only the last two parts
count, which must be DATE/TIME-CALLSID.opus, inside the folder that the settings name.
"""

from __future__ import annotations

import re
from pathlib import Path

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


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HistoryError(f"can't delete {path}: {error.strerror}") from error
    return True
