"""The console of one bridge, put together."""

from __future__ import annotations

import logging
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from personaplex_bridge import logs
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.console.access import ConsoleAccess
from personaplex_bridge.console.api import API_PATH, Api
from personaplex_bridge.console.ended import EndedCalls
from personaplex_bridge.console.headers import Dresser
from personaplex_bridge.console.pages import Pages
from personaplex_bridge.console.past import PastCalls
from personaplex_bridge.console.picture import Extras, Look
from personaplex_bridge.console.problems import as_problem
from personaplex_bridge.console.watching import Watching
from personaplex_bridge.observing import Observer
from personaplex_bridge.web.bridge import Bridge

_log = logging.getLogger(logs.NAME)

_PATHS = ("/", "/api/", "/console/", "/phone", "/phone/")
PHONE_PATH = "/phone"


class Console:
    """Give `observers` to the bridge, and its application to `add_to`.

    `access` guards other pages for the same people, too.
    """

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.access = ConsoleAccess(settings, clock)
        self._settings = settings
        self._clock = clock
        self._ended = EndedCalls(time.time)
        self.observers: list[Observer] = [self._ended] if self.access.is_there else []

    def add_to(self, app: web.Application, bridge: Bridge, past: PastCalls | None = None) -> None:
        """Serve the console, if anybody may use it; else say so. Do this once, after all other
        routes. `past` is the call history, if one is kept.
        """
        if not self.access.is_there:
            _log.info("no console: set CONSOLE_TOKEN for one at / (docs/console.md)")
            return
        extras = Extras(
            began_at_s=round(time.time() - bridge.uptime_s, 3),
            has_history=past is not None,
            has_phone=any(one.canonical == PHONE_PATH for one in app.router.resources()),
            can_log_out=self.access.asks_for_token,
        )
        look = Look(bridge, self._settings, self._ended, extras, self._clock)
        watching = Watching(look, bridge.instance, self._clock)
        Api(self.access, look, watching, bridge.catalogue, self._settings, past).add_to(app.router)
        Pages(self.access).add_to(app.router)
        app.middlewares.append(_problems)
        app.on_response_prepare.append(Dresser(_PATHS).dress)

        async def let_go(_app: web.Application) -> None:
            watching.close()

        app.on_shutdown.append(let_go)


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors below /api as problems, whoever has raised them."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if request.path.startswith(f"{API_PATH}/"):
            raise as_problem(error) from None
        raise
