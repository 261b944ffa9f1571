"""What `/metrics` tells, as Prometheus would read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.live.harness import HOST, Line

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Scrape:
    """Every sample by name and labels; the text as it came; HELP and type of each metric."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    text: str
    families: Mapping[str, tuple[str, str]]

    def value(self, name: str, **labels: str) -> float:
        """One sample, without the prefix that all have."""
        return self.samples[f"personaplex_bridge_{name}", frozenset(labels.items())]

    def total(self, name: str) -> float:
        """Of all labels."""
        return sum(n for (of, _), n in self.samples.items() if of == f"personaplex_bridge_{name}")

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def read(text: str, *, openmetrics: bool = False) -> Scrape:
    families = list((parse_openmetrics if openmetrics else parse_text)(text))
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    told = {family.name: (family.type, family.documentation) for family in families}
    return Scrape(samples, text, told)


async def ask(
    line: Line, headers: Mapping[str, str] | None = None, path: str = "/metrics"
) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://{HOST}:{line.port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def scrape(line: Line) -> Scrape:
    status, text = await ask(line)
    assert status == 200, text
    return read(text)
