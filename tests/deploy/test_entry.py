"""The entry of the model server's image, with something else in the server's place."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

ENTRY = Path(__file__).parents[2] / "deploy/personaplex/entry"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A folder for PATH, in which the gate is a program that tells what it was started with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "personaplex-bridge"
    program.write_text(
        '#!/bin/sh\necho "$@"\necho "$HF_HOME $TORCHINDUCTOR_CACHE_DIR $TRITON_CACHE_DIR"\n'
    )
    program.chmod(0o755)
    return folder


def enter(gate: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    path = f"{gate}:{os.defpath}"
    return subprocess.run(
        [ENTRY, *command],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PATH": path, **environ},
    )


def test_the_gate_starts_the_server_it_is_given(gate: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    done = enter(gate, "python", "-m", "a.server", HOME=str(tmp_path), WEIGHTS_DIR=str(volume))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "gate -- python -m a.server",
        f"{volume}/huggingface {volume}/torchinductor {volume}/triton",
    ]
    assert (volume / "huggingface").is_dir()


def test_what_is_set_already_stays(gate: Path, tmp_path: Path) -> None:
    places = {"HF_HOME": "/a", "TORCHINDUCTOR_CACHE_DIR": "/b", "TRITON_CACHE_DIR": "/c"}
    done = enter(gate, "x", HOME=str(tmp_path), WEIGHTS_DIR=str(tmp_path), **places)
    assert done.stdout.splitlines()[1] == "/a /b /c"


def unwritable(folder: Path) -> Path:
    """Not even root may make a folder in a file's place."""
    folder.write_text("")
    folder.chmod(stat.S_IRUSR)
    return folder


def test_a_volume_that_can_not_be_written_to(gate: Path, tmp_path: Path) -> None:
    volume = unwritable(tmp_path / "volume")
    done = enter(gate, "x", HOME=str(tmp_path), WEIGHTS_DIR=str(volume))
    assert done.returncode == 0
    assert f"{volume} can't be written to" in done.stderr
    assert "will be downloaded again" in done.stderr
    assert done.stdout.splitlines()[1].startswith(f"{tmp_path}/huggingface ")


def test_nowhere_to_keep_the_weights(gate: Path, tmp_path: Path) -> None:
    volume, home = unwritable(tmp_path / "volume"), unwritable(tmp_path / "home")
    done = enter(gate, "x", HOME=str(home), WEIGHTS_DIR=str(volume))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Mount a volume" in done.stderr


def test_without_a_server(gate: Path, tmp_path: Path) -> None:
    done = enter(gate, HOME=str(tmp_path))
    assert done.returncode == 2
    assert "no model server to start" in done.stderr
