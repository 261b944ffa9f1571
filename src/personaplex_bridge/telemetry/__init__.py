"""What an operator plugs their own tools into: metrics for Prometheus, traces for OpenTelemetry."""

from personaplex_bridge.telemetry.watching import Telemetry, telemetry

__all__ = ["Telemetry", "telemetry"]
