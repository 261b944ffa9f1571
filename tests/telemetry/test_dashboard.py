"""The dashboard and the alerts ask for metrics that there are, in PromQL that Prometheus takes."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import full_line, speech
from tests.telemetry.scraped import Scrape, scrape
from tests.virtual import run_cleanly

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES, DASHBOARD = DEPLOY / "grafana/alerts.yaml", DEPLOY / "grafana/dashboard.json"
METRIC = re.compile(r"\b(?:personaplex_bridge|process|python)_[a-z_]+")
LABELLED = re.compile(r"(personaplex_bridge_[a-z_]+)\{([^}]*)\}")

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool isn't here")


@pytest.fixture(scope="module")
def told() -> Scrape:
    """A scrape after a call."""

    async def after_a_call() -> Scrape:
        async with full_line(ModelOptions(prompt_ms=300)) as (line, _):
            await line.call(CallPlan("", speech()[: 8000 * 6], hang_up_after_s=10.0))
            await line.record()
            return await scrape(line)

    return run_cleanly(after_a_call())


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text("utf-8"))["panels"])


def queries() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (rule["expr"] for rule in rules())


def test_what_is_asked_for_is_there(told: Scrape) -> None:
    asked = {name for query in queries() for name in METRIC.findall(query)}
    assert len(asked) >= 35
    assert asked <= told.names | {"personaplex_bridge_queue_seconds_bucket"}, asked - told.names
    assert "personaplex_bridge_queue_seconds" in told.families, "without samples until one holds"


def test_so_are_the_labels(told: Scrape) -> None:
    known: dict[str, set[str]] = {}
    for name, labels in told.samples:
        known.setdefault(name, {"instance"}).update(label for label, _ in labels)
    for query in queries():
        for name, selector in LABELLED.findall(query):
            if name in known:
                assert set(re.findall(r"(\w+)=~?\"", selector)) <= known[name], query


def test_every_metric_of_ours_is_in_the_table_of_the_docs(told: Scrape) -> None:
    table = (DEPLOY.parent / "docs/metrics.md").read_text("utf-8")
    documented = set(re.findall(r"`personaplex_bridge_([a-z_]+)", table))
    ours = {
        f"{name}_total" if kind == "counter" else f"{name}_info" if kind == "info" else name
        for name, (kind, _) in told.families.items()
        if name.startswith("personaplex_bridge_") and not name.endswith("_created")
    }
    assert {name.removeprefix("personaplex_bridge_") for name in ours} == documented


def test_the_dashboard_is_what_its_script_makes() -> None:
    assert (
        DASHBOARD.read_text("utf-8")
        == runpy.run_path(str(DASHBOARD.with_suffix(".py")))["written"]()
    )


def test_no_panel_lies_upon_another() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]


def test_every_alert_says_what_it_means() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


@needs_promtool
def test_prometheus_takes_rules_and_example() -> None:
    assert PROMTOOL is not None
    for kind, path in (("rules", RULES), ("config", DEPLOY / "prometheus.yml")):
        run = subprocess.run([PROMTOOL, "check", kind, path], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
def test_prometheus_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    recorded = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    run = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
def test_prometheus_finds_nothing_to_mend_in_the_metrics(told: Scrape) -> None:
    assert PROMTOOL is not None
    run = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=told.text, capture_output=True, text=True
    )
    assert "personaplex" not in run.stdout + run.stderr, run.stdout + run.stderr
