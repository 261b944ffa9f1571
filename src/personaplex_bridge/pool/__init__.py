"""Which model server takes which call: leases, the line of waiting callers, health, warm lines."""

from personaplex_bridge.pool.making import make_pool, open_leases
from personaplex_bridge.pool.pool import ModelPool
from personaplex_bridge.pool.seats import SeatState
from personaplex_bridge.pool.servers import tls_context

__all__ = ["ModelPool", "SeatState", "make_pool", "open_leases", "tls_context"]
