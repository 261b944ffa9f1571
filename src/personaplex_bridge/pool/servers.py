"""A model server as the pool knows it: its address, its health, and whether it may be tried."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from personaplex_bridge.errors import ModelUnavailable
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.pool.health import Circuit, Health
from personaplex_bridge.pool.probing import check


@dataclass(eq=False, slots=True)
class Server:
    """One model server."""

    url: str
    capacity: int
    tls: ssl.SSLContext | None
    health: Health
    token: str | None = field(default=None, repr=False)
    """For a gate in front of it."""
    trial: PreparedLine | None = None
    """The connection that is to show whether it takes calls again."""
    probe: asyncio.Task[None] | None = None
    """Asks whether it is alive."""

    @property
    def may_connect(self) -> bool:
        """Whether it is good for a connection: not known to be down, or due for a trial."""
        if self.health.circuit is Circuit.HALF_OPEN:
            return self.trial is None or not self.trial.is_open
        return self.health.circuit is Circuit.CLOSED

    @property
    def may_warm(self) -> bool:
        """The same, for a connection that no call needs: it waits until the server is alive."""
        return self.may_connect and self.health.ask_at_s is None

    def ask_if_due(self, now_s: float, on_answer: Callable[[object], None]) -> float | None:
        """Begin to ask if it is alive, when it is time to; else returns when that is."""
        if self.health.ask_at_s is None or (self.probe is not None and not self.probe.done()):
            return None
        if now_s < self.health.ask_at_s:
            return self.health.ask_at_s
        self.probe = asyncio.create_task(self._ask(), name="ask-server")
        self.probe.add_done_callback(on_answer)
        return None

    async def _ask(self) -> None:
        try:
            await check(self.url, self.tls, self.token)
        except ModelUnavailable as error:
            self.health.no_answer(error, asyncio.get_running_loop().time())
        else:
            self.health.alive()


def tls_context(server: str, *, verify: bool) -> ssl.SSLContext | None:
    """Certificate checks as usual, or none for a server with a self-signed one."""
    if not server.startswith("wss:"):
        return None
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
