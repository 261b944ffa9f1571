"""A real Prometheus, with the example's settings, scrapes a bridge while calls go on; then all that
the dashboard and the alerts ask for is there. Where `prometheus` is installed.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import HOST, Line, speech
from tests.processes import free_ports
from tests.telemetry.test_dashboard import DASHBOARD, DEPLOY, RULES, panels, rules
from tests.telemetry.watched import full_line

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus isn't here")

PATIENCE_S = 60.0
COMPARED = re.compile(r"\s(?:==|>=|>|and)\s")
"""An alert's expression is empty unless it is time for it: what it compares must be there."""


@asynccontextmanager
async def prometheus(line: Line, folder: Path) -> AsyncIterator[str]:
    """A Prometheus that scrapes the bridge: deploy/prometheus.yml, but quicker. Its URL."""
    assert PROMETHEUS is not None
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(DEPLOY / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"{HOST}:{line.port}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        await process.wait()


class Asking:
    """Queries of one Prometheus."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def ask(self, path: str, **query: str) -> Any:
        """The data of an answer; an error of Prometheus's fails the test."""
        async with self._http.get(f"{self._url}/api/v1/{path}", params=query) as answer:
            told = json.loads(await answer.text())
            assert told["status"] == "success", (query, told)
            return told["data"]

    async def has(self, query: str) -> bool:
        """Whether it returns anything."""
        data = await self.ask("query", query=query)
        return data["resultType"] == "scalar" or bool(data["result"])

    async def until_all(self, queries: set[str]) -> set[str]:
        """The queries that return nothing after a good while."""
        empty = set(queries)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while empty := {query for query in empty if not await self.has(query)}:
                    await asyncio.sleep(0.5)
        except TimeoutError:
            pass
        return empty

    async def until_up(self) -> None:
        """The bridge was scraped."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if await self.has("up == 1"):
                        return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)


def questions() -> Iterator[str]:
    """What the dashboard asks for all bridges, and what the alerts compare."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
    for rule in rules():
        parts = COMPARED.split(rule["expr"])
        yield from (part.strip() for part in parts if "_" in part or "up{" in part)


async def test_prometheus_has_all_that_is_asked_for(tmp_path: Path) -> None:
    async with (
        full_line(ModelOptions(prompt_ms=100)) as (line, _),
        prometheus(line, tmp_path) as url,
        aiohttp.ClientSession() as http,
    ):
        asking = Asking(http, url)
        await asking.until_up()
        await line.call(CallPlan("", speech()[: 8000 * 4], hang_up_after_s=6.0))
        queries = set(questions())
        assert len(queries) > 60
        assert await asking.until_all(queries) == set()
        ended = 'personaplex_bridge_calls_total{reason="hung_up"} == 1'
        assert await asking.until_all({ended}) == set()  # and it is about this call

        (group,) = (await asking.ask("rules"))["groups"]
        assert Path(group["file"]) == RULES
        assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in rules()]
        assert {(rule["health"], rule.get("lastError", "")) for rule in group["rules"]} == {
            ("ok", "")
        }
        assert "firing" not in {rule["state"] for rule in group["rules"]}

        variables = json.loads(DASHBOARD.read_text("utf-8"))["templating"]["list"]
        (instances,) = [one["definition"] for one in variables if one["type"] == "query"]
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", instances)
        assert found is not None
        values = await asking.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
        assert values == [f"{HOST}:{line.port}"]
