"""The pool and the store of leases that settings ask for."""

from __future__ import annotations

from collections.abc import Sequence

from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ConfigError, LeasesUnavailable, WrongValue
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool.leases import LeaseStore
from personaplex_bridge.pool.pool import ModelPool
from personaplex_bridge.values import ServerAddress


async def open_leases(settings: Settings) -> LeaseStore | None:
    """The store that other bridges use too; None if there is none: leases stay in memory.

    Raises:
        ConfigError: it can't be reached.
    """
    if settings.leases_url is None:
        return None
    from personaplex_bridge.pool.redis_leases import RedisLeases  # most bridges do without

    leases = RedisLeases(settings.leases_url, settings.lease_ttl_s)
    try:
        await leases.look()
    except LeasesUnavailable:
        await leases.close()
        reachable = "the address of a Redis that can be reached; the log says more"
        raise ConfigError(WrongValue("LEASES_URL", "(hidden)", reachable)) from None
    return leases


def make_pool(
    settings: Settings,
    servers: Sequence[ServerAddress],
    default_role: Role,
    leases: LeaseStore | None = None,
) -> ModelPool:
    """A pool of `servers`, which are the settings' own or a stand-in's.

    `default_role` is whom to keep a line warm for, if lines are to be warm.
    """
    return ModelPool(
        servers,
        leases,
        tls_verify=settings.personaplex_tls_verify,
        handshake_timeout_s=settings.handshake_timeout_s,
        warm_role=default_role if settings.warm_lines else None,
        queue_limit=settings.queue_limit,
        token=settings.personaplex_token,
    )
