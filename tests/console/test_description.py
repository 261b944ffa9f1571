"""The API is what it says: schemathesis asks a running bridge all that its description allows, and
what it does not. Who gets in is another matter (test_access): wrong tokens would be too many here.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.console.shelf import shelf
from tests.console.site import OPEN, site

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"

CONFIG = """
color = false
generation.max-examples = 15
generation.database = "none"
parameters."path.sid" = "{sid}"
parameters."path.id" = "{id}"

# What a schema can't say: that a text has letters, and that a page has given an `after`.
[[operations]]
include-path-regex = "^/api/history/(search|export)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "503"]
"""


async def test_the_api_is_as_described(tmp_path: Path) -> None:
    async with (
        shelf(tmp_path) as kept,
        site(OPEN, past=kept.past) as at,
        at.call(seconds=300) as calling,
    ):
        config = CONFIG.format(sid=calling.sid, id=kept.recorded)
        (tmp_path / "schemathesis.toml").write_text(config)
        process = await asyncio.create_subprocess_exec(
            *(SCHEMATHESIS, "run", f"{at.base}/api/openapi.json"),
            *("--exclude-path", "/api/events"),  # has no end
            *("--checks", "all", "--exclude-checks", "ignored_auth", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(300):
            told, _ = await process.communicate()
        assert process.returncode == 0, told.decode()
