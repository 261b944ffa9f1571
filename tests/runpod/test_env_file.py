"""Writing a setting into .env keeps everything else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from personaplex_bridge.cli import env_file
from personaplex_bridge.errors import ConfigError

URL = "https://abc-8998.proxy.runpod.net"


def test_other_lines_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        '# a comment\nSAY="two words"  # why\n\nPERSONAPLEX_URL=\nexport A=1\n', "utf-8"
    )
    assert env_file.write(path, "PERSONAPLEX_URL", URL) == ""
    expected = f'# a comment\nSAY="two words"  # why\n\nPERSONAPLEX_URL={URL}\nexport A=1\n'
    assert path.read_text("utf-8") == expected
    assert env_file.current(path, "PERSONAPLEX_URL") == URL


def test_a_new_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert env_file.current(path, "PERSONAPLEX_URL") is None
    assert env_file.write(path, "PERSONAPLEX_URL", URL) is None
    assert path.read_text("utf-8") == f"PERSONAPLEX_URL={URL}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        env_file.write(path, "PERSONAPLEX_URL", URL)
    with pytest.raises(ConfigError, match="can be written"):
        env_file.write(tmp_path / "none" / ".env", "PERSONAPLEX_URL", URL)


def test_a_value_that_needs_quotes_and_a_last_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1", "utf-8")
    env_file.write(path, "PERSONAPLEX_URL", "ws://a, ws://b")
    assert path.read_text("utf-8") == "A=1\nPERSONAPLEX_URL='ws://a, ws://b'\n"
    assert env_file.current(path, "PERSONAPLEX_URL") == "ws://a, ws://b"
