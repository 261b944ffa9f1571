"""What numbers did before they were pointed here: a small file for each, until it is put back.

A file of its own is made whole or not at all, so a process that is killed leaves either nothing or
all that is needed. It names the number's SID, not the number.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personaplex_bridge.errors import NumberError
from personaplex_bridge.numbers.records import Routing

VERSION = 1

MAX_URLS = 20
"""Of our own that are remembered; a killed `dev` adds one each time."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A number that was pointed here: its routing before, and the URLs we have set since.

    `standing` is the one of them that stays until it is taken back: `dev`, which sets one for a
    while, goes back to it.
    """

    account_sid: str
    number_sid: str
    before: Routing
    ours: tuple[str, ...]
    standing: str = ""

    def serialize(self) -> bytes:
        """As it is kept."""
        kept = {
            "version": VERSION,
            "account": self.account_sid,
            "number": self.number_sid,
            "before": self.before.serialize(),
            "ours": list(self.ours),
            "standing": self.standing,
        }
        return json.dumps(kept, indent=2).encode() + b"\n"

    @classmethod
    def parse(cls, kept: bytes) -> Saved:
        """What `serialize` has made.

        Raises:
            ValueError: it is something else.
        """
        found: Any = json.loads(kept)
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise ValueError(f"it is of no version {VERSION}")
        account, number, ours = (found.get(name) for name in ("account", "number", "ours"))
        if not (isinstance(account, str) and isinstance(number, str) and isinstance(ours, list)):
            raise ValueError("something is missing in it")
        before = found.get("before")
        if not isinstance(before, dict):
            raise ValueError("it doesn't say what was before")
        urls, standing = tuple(map(str, ours)), str(found.get("standing", ""))
        return cls(account, number, Routing.parse(before), urls, standing)


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where the files are (XDG Base Directory Specification: $XDG_STATE_HOME)."""
    base = environ.get("XDG_STATE_HOME", "")
    # The specification: paths that are not absolute are to be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "personaplex-bridge" / "numbers"


class SavedNumbers:
    """The files in a folder. It is made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, number_sid: str) -> Path:
        """Where a number's file is."""
        return self._folder / f"{number_sid}.json"

    def get(self, number_sid: str) -> Saved | None:
        """What is kept of a number; None if nothing is.

        Raises:
            NumberError: the file can't be read.
        """
        path = self.path(number_sid)
        try:
            return Saved.parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise NumberError(
                f"{path} can't be read ({error}): look at it, point the number by hand in Twilio's "
                "console, then delete the file"
            ) from error

    def all(self, account_sid: str) -> list[Saved]:
        """What is kept of an account's numbers.

        Raises:
            NumberError: a file can't be read.
        """
        sids = sorted(path.stem for path in self._folder.glob("PN*.json"))
        found = [saved for sid in sids if (saved := self.get(sid)) is not None]
        return [saved for saved in found if saved.account_sid == account_sid]

    def keep(self, saved: Saved) -> None:
        """Keep this, instead of what was kept of the number.

        Raises:
            NumberError: it can't be written.
        """
        path = self.path(saved.number_sid)
        try:
            self._make_folder()
            _write_at_once(path, saved.serialize())
        except OSError as error:
            why = error.strerror or error
            raise NumberError(
                f"{path} can't be written ({why}): the number is as it was"
            ) from error

    @contextmanager
    def held(self, number_sid: str) -> Iterator[None]:
        """Have a number for oneself inside the block, as far as this machine goes. The system ends
        it with the process, however that ends.

        Raises:
            NumberError: another process has it, or the folder can't be used.
        """
        try:
            import fcntl
        except ImportError:  # Windows, where `dev` doesn't run
            yield
            return
        path = self.path(number_sid).with_suffix(".lock")
        try:
            self._make_folder()
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise NumberError(f"{path} can't be written ({error.strerror or error})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise NumberError(
                f"another `personaplex-bridge dev` has the number {number_sid}: end it first"
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    def forget(self, number_sid: str) -> None:
        """Keep nothing of a number any more."""
        self.path(number_sid).unlink(missing_ok=True)

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_at_once(path: Path, content: bytes) -> None:
    """Readable by its owner alone, on the disk before it has its name."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
