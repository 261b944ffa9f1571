"""Other people's software, run as programs. One that is missing fails the test,
except where it is published for no such machine.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.interop.sphn_peer import split_messages

PEERS = Path(os.environ.get("PERSONAPLEX_BRIDGE_PEERS", f"{sys.prefix}/peers"))
TIMEOUT_S = 30.0
_SPHN_PEER = Path(__file__).with_name("sphn_peer.py")

SPHN = ["sphn-0.1.12", "sphn-0.2.1"]
"""What NVIDIA's server uses, and what Kyutai's does."""


def sphn_decode(release: str, messages: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """The samples, at 24 kHz, that a server hears in these messages."""
    data = b"".join(struct.pack(">I", len(message)) + message for message in messages)
    return np.frombuffer(_run_sphn(release, "decode", data), np.float32)


def sphn_encode(release: str, pcm: npt.NDArray[np.int16]) -> list[bytes]:
    """The messages in which a server sends these samples, at 24 kHz."""
    data = (pcm / 32768).astype(np.float32).tobytes()
    return list(split_messages(_run_sphn(release, "encode", data)))


def run_opus_tool(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """opusinfo, opusdec or opusenc, run to its end whatever that is."""
    if shutil.which(arguments[0]) is None:
        pytest.fail(f"{arguments[0]} is not installed; run ./scripts/test, which sees to it")
    return subprocess.run(
        arguments, input=given, capture_output=True, timeout=TIMEOUT_S, check=False
    )


def _run_sphn(release: str, work: str, given: bytes) -> bytes:
    folder = PEERS / release
    if (folder / ".unpublished").exists():
        pytest.skip(f"{release} isn't published for this system or Python (scripts/lib/setup.sh)")
    if not (folder / "sphn").is_dir():
        pytest.fail(f"{release} is not in {PEERS}; run ./scripts/test, which sees to it")
    done = subprocess.run(
        [sys.executable, str(_SPHN_PEER), work],
        input=given,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
