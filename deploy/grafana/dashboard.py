"""Makes dashboard.json, beside this file.

    python deploy/grafana/dashboard.py

Change this and run it again; docs/metrics.md tells how to import the result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("dashboard.json")
PREFIX = "personaplex_bridge_"
OF = '{instance=~"$instance"}'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8
SECONDS, FRACTION, NUMBER, BYTES = "s", "percentunit", "short", "bytes"


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: lines as (PromQL, legend)."""

    title: str
    text: str
    lines: Sequence[tuple[str, str]]
    unit: str = NUMBER
    kind: str = "timeseries"
    width: int = 8
    height: int = HEIGHT
    stacked: bool = False


def metric(name: str, **labels: str) -> str:
    """A selector; a label's value is a regular expression."""
    more = "".join(f', {label}=~"{value}"' for label, value in labels.items())
    return f'{PREFIX}{name}{{instance=~"$instance"{more}}}'


def rate(selector: str, by: str = "") -> str:
    """How much a second, summed over all bridges."""
    by = f" by ({by})" if by else ""
    return f"sum{by} (rate({selector}[$__rate_interval]))"


def quantiles(name: str, **labels: str) -> list[tuple[str, str]]:
    """The median and what is worse."""
    within = rate(metric(f"{name}_bucket", **labels), "le")
    return [
        (f"histogram_quantile({quantile}, {within})", f"p{round(quantile * 100)}")
        for quantile in (0.5, 0.95, 0.99)
    ]


def frames(direction: str, kinds: str) -> list[tuple[str, str]]:
    """What became of frames, as a part of those that came."""
    name = f"{direction}_frames_total"
    came = rate(metric(name, kind="received"))
    return [(f"{rate(metric(name, kind=kinds), 'kind')} / scalar({came})", "{{kind}}")]


ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "Callers",
        (
            Panel(
                "Calls in progress", "", [(f"sum({metric('calls_in_progress')})", "")],
                kind="stat", width=4, height=4,
            ),
            Panel(
                "Callers who hold", "", [(f"sum({metric('callers_waiting')})", "")],
                kind="stat", width=4, height=4,
            ),
            Panel(
                "Calls a minute", "", [(f"60 * {rate(metric('calls_begun_total'))}", "")],
                kind="stat", width=4, height=4,
            ),
            Panel(
                "Calls ended by the model", "Of all that ended. Should be zero.",
                [(
                    f"{rate(metric('calls_total', ended_by='model'))} / "
                    f"{rate(metric('calls_total'))}", "",
                )],
                FRACTION, kind="stat", width=4, height=4,
            ),
            Panel(
                "Draining", "Bridges that take no new calls.",
                [(f"sum({metric('draining')})", "")], kind="stat", width=4, height=4,
            ),
            Panel(
                "Bridges", "", [(f"count({metric('build_info')})", "")],
                kind="stat", width=4, height=4,
            ),
            Panel(
                "Calls", "", [
                    (f"sum by (instance) ({metric('calls_in_progress')})", "{{instance}}"),
                    (f"sum({metric('callers_waiting')})", "who hold"),
                ], stacked=True,
            ),
            Panel(
                "Ends of calls, a minute", "By whose doing it was, and why.",
                [(f"60 * {rate(metric('calls_total'), 'ended_by, reason')}",
                  "{{ended_by}}: {{reason}}")], stacked=True,
            ),
            Panel(
                "Answers to webhooks, a minute", "But those of callers who go on holding.",
                [(f"60 * {rate(metric('webhooks_total', answer='[^h].*|hung_up'), 'answer')}",
                  "{{answer}}")],
            ),
            Panel("Length of calls", "", quantiles("call_duration_seconds"), SECONDS),
            Panel("Time in the queue", "", quantiles("queue_seconds"), SECONDS),
            Panel(
                "Refused, a minute", "Signatures that are wrong often mean a wrong PUBLIC_URL.",
                [(f"60 * {rate(metric('refused_total'), 'reason')}", "{{reason}}")],
            ),
        ),
    ),
    (
        "Delay",
        (
            Panel(
                "Turn-taking", "From the caller's last voice to the model's first sound.",
                quantiles("turn_delay_seconds"), SECONDS,
            ),
            Panel(
                "Model ready", "From a stream's start.", quantiles("setup_seconds"), SECONDS
            ),
            Panel(
                "First audio", "From a stream's start.", quantiles("first_audio_seconds"), SECONDS
            ),
            Panel(
                "Lag to the model", "", quantiles("lag_seconds", direction="uplink"), SECONDS
            ),
            Panel(
                "Lag to the caller", "", quantiles("lag_seconds", direction="downlink"), SECONDS
            ),
            Panel(
                "Answering webhooks", "Twilio waits 15 s.", quantiles("webhook_seconds"), SECONDS
            ),
        ),
    ),
    (
        "Sound",
        (
            Panel(
                "Caller's frames, of those received", "",
                frames("uplink", "filled|doubled|shortened|dropped"), FRACTION,
            ),
            Panel(
                "Model's frames, of those received", "",
                frames("downlink", "made_up|cushion|shortened|dropped|cleared|tail"), FRACTION,
            ),
            Panel(
                "Sent as silence", "What the noise gate took for no voice.",
                frames("uplink", "gated"), FRACTION,
            ),
            Panel(
                "Gaps", "Time the phone was without sound in the middle of it, per call.",
                [(f"{rate(metric('gap_seconds_total'))} / sum({metric('calls_in_progress')})",
                  "seconds a second")], FRACTION,
            ),
            Panel(
                "Interruptions and gaps, a minute", "",
                [
                    (f"60 * {rate(metric('barge_ins_total'))}", "barge-ins"),
                    (f"60 * {rate(metric('gaps_total'))}", "gaps"),
                ],
            ),
            Panel(
                "Malformed messages and damage, a minute", "",
                [(f"60 * {rate(metric('faults_total'), 'source')}", "{{source}}")],
            ),
        ),
    ),
    (
        "Model servers",
        (
            Panel(
                "Circuits", "1: it gets calls. A bridge knows its servers by number.",
                [(f"{metric('model_server_circuit', circuit='closed')}",
                  "{{instance}} server {{server}}")],
            ),
            Panel(
                "In use", "Calls, of whichever bridge, by what the servers can take.",
                [(f"max by (server) ({metric('model_server_calls')}) / "
                  f"max by (server) ({metric('model_server_capacity')})", "server {{server}}")],
                FRACTION,
            ),
            Panel(
                "Lines", "", [(f"sum by (state) ({metric('lines')})", "{{state}}")], stacked=True
            ),
            Panel(
                "Failures in calls, a minute", "",
                [(f"60 * {rate(metric('model_failures_total'), 'error')}", "{{error}}")],
            ),
            Panel(
                "Without a model", "Until the call has the next one.",
                quantiles("recovery_seconds"), SECONDS,
            ),
            Panel(
                "Reservations, a minute", "Asked for by webhooks, and by callers who hold.",
                [(f"60 * {rate(metric('reservation_seconds_count'), 'outcome')}", "{{outcome}}")],
            ),
        ),
    ),
    (
        "Process",
        (
            Panel(
                "Event loop, how late", "A frame of sound has 20 ms.",
                quantiles("event_loop_delay_seconds"), SECONDS,
            ),
            Panel(
                "Processor", "1 is one core: all that one bridge can use.",
                [(f"rate(process_cpu_seconds_total{OF}[$__rate_interval])", "{{instance}}")],
            ),
            Panel(
                "Memory", "", [(f"process_resident_memory_bytes{OF}", "{{instance}}")], BYTES
            ),
            Panel(
                "Open files", "", [
                    (f"process_open_fds{OF}", "{{instance}}"),
                    (f"process_max_fds{OF}", "limit of {{instance}}"),
                ],
            ),
            Panel(
                "Store of leases", "1: it answers.",
                [(f"min by (instance) ({metric('leases_reachable')})", "{{instance}}")],
            ),
            Panel(
                "Started", "", [(f"time() - process_start_time_seconds{OF}", "{{instance}}")],
                SECONDS,
            ),
        ),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole of it, as Grafana imports it."""
    return {
        "uid": "personaplex-bridge",
        "title": "PersonaPlex bridge",
        "description": "Calls between Twilio and PersonaPlex.",
        "tags": ["personaplex"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "templating": {"list": [_datasource(), _instance()]},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }


def _instance() -> dict[str, Any]:
    query = f"label_values({PREFIX}build_info, instance)"
    return {
        "name": "instance",
        "label": "Bridge",
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "instances"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
            "panels": [],
        }
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > WIDTH:
                top, left, height = top + height, 0, 0
            number += 1
            yield _panel(panel, number, left, top)
            left, height = left + panel.width, panel.height
        top += height


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 30 if panel.stacked else 5
        defaults["custom"] = {"stacking": stacking, "fillOpacity": fill, "showPoints": "never"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": left, "y": top},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": "ABCDEFGH"[index],
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
            }
            for index, (query, legend) in enumerate(panel.lines)
        ],
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}


def written() -> str:
    """dashboard.json."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(written(), "utf-8")
