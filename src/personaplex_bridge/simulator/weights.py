"""A model server that first downloads its weights: for rehearsals, without weights.

    python -m personaplex_bridge.simulator.weights SECONDS COMMAND...

What lies in HF_HOME afterwards looks like the Hugging Face hub's cache, down to the size; but it is
all hole and takes no room on the disk.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

FOLDER = Path("hub/models--nvidia--personaplex-7b-v1")
WEIGHTS_BYTES = 16_700_000_000
STEP_S = 0.2


def download(hf_home: Path, seconds: float) -> None:
    """Let the weights grow for so long, unless they are there."""
    snapshot = hf_home / FOLDER / "snapshots/0"
    if snapshot.exists():
        return
    blobs = hf_home / FOLDER / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    part = blobs / "weights.incomplete"
    began_s = time.monotonic()
    with part.open("wb") as file:
        while (share := (time.monotonic() - began_s) / seconds) < 1:
            file.truncate(int(share * WEIGHTS_BYTES))
            time.sleep(STEP_S)
        file.truncate(WEIGHTS_BYTES)
    part.rename(blobs / "weights")
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/weights")


def main(seconds: str, *command: str) -> None:
    """Download, then become the model server."""
    download(Path(os.environ["HF_HOME"]), float(seconds))
    os.execvp(command[0], command)  # noqa: S606 - the command is ours


if __name__ == "__main__":
    main(*sys.argv[1:])
