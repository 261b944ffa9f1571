"""The page's modules that need no page, run by Node: the system's, or the one in Playwright."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from playwright._impl._driver import compute_driver_executable

from personaplex_bridge.audio import l16, mulaw

TESTS = Path(__file__).with_name("modules.test.mjs")


def test_the_modules() -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    expected = {
        "decoded": mulaw.decode(bytes(range(256))).tolist(),
        "encoded": base64.b64encode(mulaw.encode(samples)).decode(),
        "l16": base64.b64encode(l16.encode(samples[::85])).decode(),
    }
    ran = subprocess.run(
        [shutil.which("node") or compute_driver_executable()[0], "--test", str(TESTS)],
        env={**os.environ, "EXPECTED": json.dumps(expected)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert "# skipped 0" in ran.stdout
