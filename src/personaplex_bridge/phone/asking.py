"""What a page may ask for when it calls: JSON, read strictly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from aiohttp import web

from personaplex_bridge.console.problems import Problem

ASKABLE: Sequence[str] = ("persona", "voice", "text_prompt", "sound")
"""Of a call."""

BODY_TIMEOUT_S = 10.0


async def read_asked(request: web.Request, askable: Sequence[str] = ASKABLE) -> dict[str, str]:
    """The fields that are filled in, of those that may be. An empty body asks for nothing.

    Raises:
        Problem: 400, 408, 415 or 422; says what is wrong with it.
        HTTPRequestEntityTooLarge: it is longer than MAX_BODY_BYTES.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    if not body:
        return {}
    # A page of another site can't send this type without asking first (CORS).
    if request.content_type != "application/json":
        raise Problem(415, "the body must be application/json")
    return {name: value for name, value in _fields(body, askable).items() if value}


def _fields(body: bytes, askable: Sequence[str]) -> dict[str, str]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise Problem(422, "the body must be a JSON object")
    for name, value in asked.items():
        if name not in askable:
            raise Problem(422, f"unknown field {name[:24]!r}; there is {', '.join(askable)}")
        if not isinstance(value, str):
            raise Problem(422, f"{name} must be a string")
    return asked
