"""`/metrics`: what Prometheus reads, for those who may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from personaplex_bridge.observing import Refused
from personaplex_bridge.telemetry.metrics import CallMetrics
from personaplex_bridge.telemetry.state import Watched
from personaplex_bridge.values import Network
from personaplex_bridge.web.forwarded import Proxies
from personaplex_bridge.web.observed import REFUSED

METRICS_PATH = "/metrics"

_OPENMETRICS, _END = "application/openmetrics-text", b"# EOF\n"


@dataclass(frozen=True, slots=True)
class _One:
    """A registry of one metric, less the moments at which its counters were made: they would double
    what is told, and prometheus_client has but one switch for a whole process.
    """

    metric: Metric

    def collect(self) -> Iterator[Metric]:
        of = self.metric
        of.samples = [one for one in of.samples if not one.name.endswith("_created")]
        yield of


class MetricsPage:
    """The route. `allowed` are the networks that may read it."""

    def __init__(
        self,
        registry: CollectorRegistry,
        metrics: CallMetrics,
        bridge: Watched,
        allowed: Sequence[Network],
        proxies: Proxies,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._bridge = bridge
        self._allowed = allowed
        self._proxies = proxies

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route to an application's."""
        router.add_get(METRICS_PATH, self.tell)

    async def tell(self, request: web.Request) -> web.Response:
        """All metrics, as they are now; in OpenMetrics if that is asked for.

        Raises:
            HTTPForbidden: the address isn't in METRICS_ALLOW.
        """
        if not self._may_read(request):
            refusal = web.HTTPForbidden(text="not for this address: see METRICS_ALLOW\n")
            refusal[REFUSED] = Refused.ADDRESS
            raise refusal
        # In the event loop, where nothing else happens meanwhile: no call is counted twice or
        # missed. Step by step, so that no sound waits for more than one of them.
        for record in self._bridge.counted():
            self._metrics.count(record)
            await asyncio.sleep(0)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = bytearray()
        for metric in self._registry.collect():
            body += encode(cast("CollectorRegistry", _One(metric))).removesuffix(_END)
            await asyncio.sleep(0)
        if content_type.startswith(_OPENMETRICS):
            body += _END
        return web.Response(body=bytes(body), headers={"Content-Type": content_type})

    def _may_read(self, request: web.Request) -> bool:
        client = self._proxies.certain_client_of(request)
        return client is not None and any(client in network for network in self._allowed)
