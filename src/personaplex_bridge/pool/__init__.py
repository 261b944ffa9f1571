"""Which model server takes which call: leases, the line of waiting callers, health, warm lines."""

from personaplex_bridge.pool.making import make_pool
from personaplex_bridge.pool.pool import ModelPool, tls_context
from personaplex_bridge.pool.seats import SeatState

__all__ = ["ModelPool", "SeatState", "make_pool", "tls_context"]
