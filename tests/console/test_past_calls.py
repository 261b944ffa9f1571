"""Calls past over HTTP, out of a history that is kept: as `serve` puts it all together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from personaplex_bridge.config import Settings
from personaplex_bridge.serve import running
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.live.harness import speech
from tests.processes import free_ports

CALLER = "+15550111222"


async def test_a_call_is_found_once_it_is_over(tmp_path: Path) -> None:
    settings = Settings(
        history=True,
        state_dir=tmp_path,
        recording=True,
        recording_words=None,
        recordings_folder=tmp_path / "recordings",
        port=free_ports(1)[0],
    )
    plan = CallPlan("", speech()[:8000], caller=CALLER, hang_up_after_s=1.5)
    async with running(settings) as site, ClientSession(site.address) as http:

        async def search(**asked: Any) -> tuple[int, Any]:
            async with http.post("/api/history/search", json=asked) as answer:
                return answer.status, await answer.json()

        await PhoneCall(replace(plan, webhook_url=site.address + WEBHOOK_PATH)).run()
        async with asyncio.timeout(20):
            while True:
                status, page = await search(number=CALLER, outcome="hung-up", sort="duration")
                assert status == 200, page
                if page["calls"]:
                    break
                await asyncio.sleep(0.1)
        [call] = page["calls"]
        assert CALLER not in str(page)
        async with http.get(f"/api/history/{call['id']}") as answer:
            assert answer.status == 200
            whole = await answer.json()
        assert whole["id"] == call["id"]
        path = f"/api/history/{call['id']}/recording"
        async with asyncio.timeout(20):  # it gets its name a moment after the call
            while (sound := await _content(http, path)) is None:
                await asyncio.sleep(0.1)
        assert sound.startswith(b"OggS")
        assert (await search(number="+15550000000"))[1]["calls"] == []
        status, problem = await search(after="nonsense")
        assert status == 400, problem
        async with http.get("/api/history/0000000000000000") as answer:
            assert answer.status == 404


async def _content(http: ClientSession, path: str) -> bytes | None:
    async with http.get(path) as answer:
        return await answer.read() if answer.status == 200 else None
