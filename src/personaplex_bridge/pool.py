"""Which model server takes which call.

One connection per model server, held from the first byte to the last: a server writes voice and
prompt into shared state when a connection *arrives*, so a second one, even one that only waits,
changes or breaks the call in progress (docs/protocol.md). The pool therefore lends a line before
it connects, and takes it back only once its socket is closed.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from personaplex_bridge.errors import ModelBusy
from personaplex_bridge.personaplex.client import PersonaPlexLine, open_line
from personaplex_bridge.personaplex.voices import Role


class ModelPool:
    """The lines to one model server: `capacity` of them, 1 for NVIDIA's own server."""

    def __init__(self, server: str, capacity: int = 1, *, tls_verify: bool = True) -> None:
        self.free = capacity
        self._server = server
        self._tls = tls_context(server, verify=tls_verify)

    @asynccontextmanager
    async def line(self, role: Role) -> AsyncIterator[PersonaPlexLine]:
        """A line to the model for one call; closed, then given back, on exit.

        Raises:
            ModelBusy: all are taken; nothing was connected.
            ModelUnavailable: the server can't be reached.
        """
        if self.free == 0:
            raise ModelBusy("every line to the model server is taken")
        self.free -= 1
        try:
            async with open_line(self._server, role, self._tls) as line:
                yield line
        finally:
            self.free += 1


def tls_context(server: str, *, verify: bool) -> ssl.SSLContext | None:
    """Certificate checks as usual, or none for a server with a self-signed one."""
    if not server.startswith("wss:"):
        return None
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
