"""Those who are slow, and those who are many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack

from personaplex_bridge.web.hosting import MAX_STRANGERS
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.attacks import raw
from tests.attacks.raw import Connection
from tests.attacks.scene import Scene, attack, host, signed_upgrade, signed_webhook, webhook
from tests.live.harness import CLOCK

CROWD = 700
assert CROWD > MAX_STRANGERS


async def _until_closed(connection: Connection, drops: Iterable[bytes]) -> str:
    """Send something every second, until the bridge has had enough."""
    began_s = CLOCK.now()
    answering = asyncio.create_task(connection.answer())
    for drop in drops:
        connection.send(drop)
        await asyncio.wait({answering}, timeout=1.0)
        if answering.done():
            break
    return f"{await answering}, after {CLOCK.now() - began_s:.0f} s"


@attack("slow headers", "a header line every second, without an end", lasts_s=15.0)
async def slow_headers(scene: Scene) -> str:
    async with scene.connect() as connection:
        lines = (f"X-{number}: x\r\n".encode() for number in range(60))
        connection.send(b"POST /voice/inbound HTTP/1.1\r\n")
        return await _until_closed(connection, lines)


@attack("slow headers of a second request", "a whole request, then another a byte a second")
async def slow_second(scene: Scene) -> str:
    async with scene.connect() as connection:
        connection.send(raw.request("GET", "/healthz", [host(), ("Connection", "keep-alive")]))
        drops = (bytes([byte]) for byte in webhook())
        return await _until_closed(connection, drops)


@attack("slow body", "a body a byte a second", lasts_s=15.0)
async def slow_body(scene: Scene) -> str:
    async with scene.connect() as connection:
        connection.send(raw.request("POST", WEBHOOK_PATH, [host(), ("Content-Length", "1000")]))
        return await _until_closed(connection, [b"x"] * 60)


@attack("idle connections", "700 connections that say nothing, then a webhook", lasts_s=15.0)
async def idle_connections(scene: Scene) -> str:
    return await _crowd(scene, b"")


@attack("slow connections", "700 webhooks whose body never comes, then a genuine one", lasts_s=15.0)
async def slow_connections(scene: Scene) -> str:
    return await _crowd(
        scene, raw.request("POST", WEBHOOK_PATH, [host(), ("Content-Length", "1000")])
    )


@attack("silent media sockets", "700 signed media sockets without `start`, then a webhook")
async def silent_sockets(scene: Scene) -> str:
    return await _crowd(scene, signed_upgrade(), waits=False)


async def _crowd(scene: Scene, data: bytes, *, waits: bool = True) -> str:
    """Many connections at once; whether a genuine webhook is answered in the midst of them."""
    async with AsyncExitStack() as stack:
        answers = []
        for _ in range(CROWD):
            connection = await stack.enter_async_context(scene.connect())
            connection.send(data)
            answers.append(asyncio.create_task(connection.answer(), name="crowd"))
        await asyncio.sleep(0.1)
        left = sum(not answer.done() for answer in answers)
        genuine = await scene.ask(signed_webhook())
        if waits:
            await asyncio.wait(answers)
        closed = [str(answer.result()) for answer in answers if answer.done()]
    await asyncio.gather(*answers)
    kinds = ", ".join(f"{number}x {kind}" for kind, number in sorted(Counter(closed).items()))
    told = f"; {kinds}" if waits else ""
    return f"{left} stay, the oldest are closed{told}; the genuine webhook: {genuine}"
