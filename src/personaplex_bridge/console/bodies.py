"""Reading what is posted, within bounds: of MAX_BODY_BYTES, and of time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from personaplex_bridge.console.problems import Problem
from personaplex_bridge.web.access import BODY_TIMEOUT_S


async def read_body(request: web.Request) -> bytes:
    """The body.

    Raises:
        Problem: 408 if it doesn't come in time, 400 if it breaks off.
        HTTPRequestEntityTooLarge: it is longer than MAX_BODY_BYTES.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Problem(408, "no body in time") from None
    except (ConnectionError, web.RequestPayloadError):
        raise Problem(400, "the body breaks off") from None
