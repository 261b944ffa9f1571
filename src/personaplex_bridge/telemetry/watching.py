"""Metrics and traces of one bridge, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from personaplex_bridge.config import Settings
from personaplex_bridge.observing import Observer
from personaplex_bridge.telemetry.loop_delay import LoopDelay
from personaplex_bridge.telemetry.metrics import CallMetrics
from personaplex_bridge.telemetry.page import MetricsPage
from personaplex_bridge.telemetry.state import BridgeState, Watched
from personaplex_bridge.telemetry.traces import open_traces
from personaplex_bridge.web.forwarded import Proxies


class Telemetry:
    """Give `observers` to the bridge, and its application to `add_to`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self.loop_delay = LoopDelay(self._registry)
        self._metrics = CallMetrics(self._registry)
        self.observers: list[Observer] = []
        if settings.metrics_allow is not None:
            self.observers.append(self._metrics)

    def add_to(self, app: web.Application, bridge: Watched) -> None:
        """Serve the bridge's metrics, unless METRICS_ALLOW is off. Do this once."""
        settings = self._settings
        if settings.metrics_allow is None:
            return
        self._registry.register(BridgeState(bridge, settings.max_calls))
        proxies = Proxies(settings.trusted_proxies)
        page = MetricsPage(self._registry, self._metrics, bridge, settings.metrics_allow, proxies)
        page.add_to(app.router)


@asynccontextmanager
async def telemetry(settings: Settings) -> AsyncIterator[Telemetry]:
    """What the settings want of metrics and traces, inside the block. On exit the last spans are
    sent, for three seconds at most.

    Raises:
        ConfigError: traces are wanted, and their packages aren't installed.
    """
    watch = Telemetry(settings)
    async with AsyncExitStack() as stack:
        if settings.otlp_endpoint is not None:
            traces = open_traces(settings.otlp_endpoint)
            watch.observers.append(traces.observer)
            stack.push_async_callback(traces.close)
        measuring = asyncio.create_task(watch.loop_delay.run(), name="loop-delay")
        stack.callback(measuring.cancel)
        yield watch
