"""What Prometheus is told of how the bridge stands: gauges, read when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from personaplex_bridge import __version__
from personaplex_bridge.pool import ModelPool, SeatState
from personaplex_bridge.pool.health import Circuit
from personaplex_bridge.record import CallRecord
from personaplex_bridge.telemetry.metrics import PREFIX


class Watched(Protocol):
    """What must be known of a bridge."""

    @property
    def records(self) -> Sequence[CallRecord]:
        """The calls in progress."""
        ...

    def counted(self) -> Iterator[CallRecord]:
        """The calls in progress, each with its counters as they are when it is given; not those
        that end meanwhile.
        """
        ...

    @property
    def pool(self) -> ModelPool:
        """The model servers."""
        ...

    @property
    def callers_waiting(self) -> int:
        """How many callers hold."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether new calls are turned away."""
        ...


class BridgeState(Collector):
    """The gauges."""

    def __init__(self, bridge: Watched, max_calls: int) -> None:
        self._bridge = bridge
        self._max_calls = max_calls

    def collect(self) -> Iterator[Metric]:
        """Every gauge, as it is now. Model servers are told by their place in PERSONAPLEX_URL."""
        bridge = self._bridge
        calls = sum(bool(record.persona) for record in bridge.records)
        yield _gauge("calls_in_progress", "Calls that have a stream.", calls)
        yield _gauge("calls_limit", "MAX_CALLS.", self._max_calls)
        yield _gauge("callers_waiting", "Callers who hold.", bridge.callers_waiting)
        yield _gauge(
            "draining",
            "1 while new calls are turned away: the bridge shuts down.",
            bridge.is_draining,
        )
        yield _gauge(
            "leases_reachable",
            "1 if the store of leases (LEASES_URL) answered when it was last asked.",
            bridge.pool.leases_reachable,
        )
        yield from self._servers()
        states: Mapping[SeatState, int] = bridge.pool.states
        yield _labelled(
            "lines",
            "Lines to the model servers, by state.",
            ("state",),
            {(str(state),): states.get(state, 0) for state in SeatState},
        )
        build = InfoMetricFamily(f"{PREFIX}build", "This bridge.")
        build.add_metric([], {"version": __version__})
        yield build

    def _servers(self) -> Iterator[Metric]:
        servers = dict(enumerate(self._bridge.pool.servers, start=1))
        yield _labelled(
            "model_server_circuit",
            "1 for the circuit that a model server has: closed is good.",
            ("server", "circuit"),
            {
                (str(number), circuit.replace("-", "_")): server.circuit == circuit
                for number, server in servers.items()
                for circuit in Circuit
            },
        )
        yield _labelled(
            "model_server_calls",
            "Calls that a model server has, of whichever bridge.",
            ("server",),
            {(str(number),): server.busy for number, server in servers.items()},
        )
        yield _labelled(
            "model_server_capacity",
            "Calls that a model server takes at a time.",
            ("server",),
            {(str(number),): server.capacity for number, server in servers.items()},
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))


def _labelled(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, float(value))
    return family
