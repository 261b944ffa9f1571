"""Writing a setting into .env, which keeps the rest of it: other settings, comments, order."""

from __future__ import annotations

from pathlib import Path

from personaplex_bridge.errors import ConfigError, WrongValue


def current(path: Path, variable: str) -> str | None:
    """What the file says now; None if it doesn't."""
    from dotenv import dotenv_values

    try:
        return dotenv_values(path).get(variable) if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(WrongValue(str(path), variable, "a file in UTF-8")) from error


def write(path: Path, variable: str, value: str) -> str | None:
    """Set a variable; gives the value it had. A new file is for its owner's eyes only.

    Raises:
        ConfigError: the file can't be read or written.
    """
    from dotenv import set_key

    before = current(path, variable)
    try:
        path.touch(mode=0o600, exist_ok=True)
        set_key(path, variable, value, quote_mode="never")
    except OSError as error:
        allowed = f"a file that can be written: {error.strerror}"
        raise ConfigError(WrongValue(str(path), variable, allowed)) from error
    return before
