"""`/metrics`: what Prometheus reads, for those who may."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from personaplex_bridge.observing import Refused
from personaplex_bridge.telemetry.metrics import CallMetrics
from personaplex_bridge.telemetry.state import Watched
from personaplex_bridge.values import Network
from personaplex_bridge.web.forwarded import FOR_HEADER, HOST_HEADER, PROTO_HEADER, Proxies
from personaplex_bridge.web.observed import REFUSED

METRICS_PATH = "/metrics"


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
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    def _may_read(self, request: web.Request) -> bool:
        told = set(request.headers)
        if FOR_HEADER not in told and {HOST_HEADER, PROTO_HEADER, "Forwarded"} & told:
            return False  # from a proxy that doesn't tell for whom
        try:
            client = ipaddress.ip_address(self._proxies.client_of(request))
        except ValueError:  # a Unix socket's
            return False
        return any(client in network for network in self._allowed)
