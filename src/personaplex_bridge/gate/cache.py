"""What the model server's downloads have come to, as seen in HF_HOME.

The layout is that of the Hugging Face hub's cache: `blobs` hold what was downloaded (with the
ending `.incomplete` until it is whole), `snapshots/REVISION` names it by links.
"""

from __future__ import annotations

import os
from pathlib import Path

MODEL = "nvidia/personaplex-7b-v1"
WEIGHTS = "model.safetensors"
DOWNLOAD_BYTES = 16_700_000_000
"""About what is downloaded in all."""

_FOLDER = Path("hub", "models--" + MODEL.replace("/", "--"))


def is_complete(hf_home: Path) -> bool:
    """Whether a snapshot has the weights, and no download is under way."""
    folder = hf_home / _FOLDER
    under_way = any(folder.glob("blobs/*.incomplete"))
    return not under_way and any(path.is_file() for path in folder.glob(f"snapshots/*/{WEIGHTS}"))


def downloaded_bytes(hf_home: Path) -> int:
    """How much there is, whole or not. Links don't count: what they lead to does."""
    total = 0
    for folder, _, names in os.walk(hf_home / _FOLDER):
        for name in names:
            path = Path(folder, name)
            try:
                total += 0 if path.is_symlink() else path.stat().st_size
            except OSError:  # a download that has just got its final name
                continue
    return total


def voices_folder(hf_home: Path) -> Path | None:
    """Where NVIDIA's server unpacks its voices at its first start; None if it hasn't yet.

    Of several snapshots the newest counts: that is the one the server has just used.
    """
    found = [path for path in (hf_home / _FOLDER).glob("snapshots/*/voices") if path.is_dir()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
