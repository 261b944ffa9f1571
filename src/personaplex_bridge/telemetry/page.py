"""`/metrics`: what Prometheus reads, for those who may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class _WithoutCreated:
    """A registry, less the moments at which counters were made: they would double what is told, and
    prometheus_client has but one switch for a whole process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


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
        # In the event loop, where nothing changes meanwhile: no call is counted twice or missed.
        for record in self._bridge.counted():
            self._metrics.count(record)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(cast("CollectorRegistry", _WithoutCreated(self._registry)))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _may_read(self, request: web.Request) -> bool:
        client = self._proxies.certain_client_of(request)
        return client is not None and any(client in network for network in self._allowed)
