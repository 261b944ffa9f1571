"""Writing a setting into .env and keeping the rest: other settings, comments, empty lines."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from personaplex_bridge.errors import ConfigError, WrongValue

PRIVATE = 0o600


def current(path: Path, variable: str) -> str | None:
    """What the file says now; None if it doesn't."""
    from dotenv import dotenv_values

    try:
        return dotenv_values(path).get(variable) if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(WrongValue(str(path), variable, "a file in UTF-8")) from error


def write(path: Path, variable: str, value: str) -> str | None:
    """Set a variable to a value in one line; gives the value it had. It is written whole or not at
    all; a new file is for its owner's eyes only.

    Raises:
        ConfigError: the file can't be read or written.
    """
    before = current(path, variable)
    try:
        whole = path.resolve()  # a link stays one
        text = whole.read_text("utf-8") if whole.exists() else ""
        _replace(whole, _changed(text, variable, value))
    except OSError as error:
        allowed = f"a file that can be written: {error.strerror}"
        raise ConfigError(WrongValue(str(path), variable, allowed)) from error
    return before


def _changed(text: str, variable: str, value: str) -> str:
    line = f"{variable}={value}" if re.fullmatch(r"[\w:/.,@{}#?&=+-]*", value) else ""
    line = line or f"{variable}='{value}'"
    there = re.compile(rf"^([ \t]*(?:export[ \t]+)?){re.escape(variable)}[ \t]*=.*$", re.MULTILINE)
    if there.search(text):
        return there.sub(lambda match: match[1] + line, text)
    return text + ("\n" if text and not text.endswith("\n") else "") + line + "\n"


def _replace(path: Path, text: str) -> None:
    mode = path.stat().st_mode if path.exists() else PRIVATE
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".env.", delete=False
    ) as file:
        file.write(text)
    try:
        Path(file.name).chmod(mode & 0o777)
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink()
        raise
