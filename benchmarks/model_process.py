"""Model servers' stand-ins in a process of their own.

It prints its port first, then a line of JSON for each session when it is over, and for each moment
in which it stood still itself. The servers differ by path: /gpu-1, /gpu-2 … A session whose prompt
asks for it misbehaves, once (`bad_models`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

from benchmarks.bad_models import BadModels
from benchmarks.sounds import model_packets
from benchmarks.stalls import watch_stalls
from personaplex_bridge.signals import until_signal
from personaplex_bridge.simulator.behaviours import Loop
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.web.hosting import hosted

SENTENCE = "the quick brown fox jumps over the lazy dog, and you listen"
PIECES = tuple(f" {word}" for word in SENTENCE.split())
"""What the model says, if it says anything. Pieces begin with a space, as the model's do."""


def command(speech: Path, *, servers: int, capacity: int, words: bool = False) -> list[str]:
    """How to start it. With `words` each session has three pieces of text a second, too."""
    arguments = [str(speech), str(servers), str(capacity), *(["words"] if words else [])]
    return [sys.executable, "-m", "benchmarks.model_process", *arguments]


def addresses(port: int, *, servers: int) -> str:
    """What PERSONAPLEX_URL is to be."""
    return ",".join(f"ws://127.0.0.1:{port}/gpu-{number}" for number in range(1, servers + 1))


async def main(speech: Path, servers: int, capacity: int, pieces: Sequence[str]) -> None:
    packets = model_packets(speech)
    bad = BadModels(packets)
    options = ModelOptions(prompt_ms=0, step_ms=0, sessions=capacity)
    app = web.Application()
    for number in range(1, servers + 1):
        server = ModelServer(options, behave=lambda: Loop(packets, pieces))
        app.add_subapp(f"/gpu-{number}", _watched(server, bad, capacity))
    gc.collect()
    gc.freeze()
    watching = asyncio.create_task(
        watch_stalls(lambda from_s, to_s: _print({"stall": [from_s, to_s]}))
    )
    async with hosted(app, "127.0.0.1", 0) as port:
        print(port, flush=True)
        await until_signal()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


def _watched(server: ModelServer, bad: BadModels, capacity: int) -> web.Application:
    """The server's application. Tells of its sessions, and hands those to `bad` that ask for it."""
    open_ = 0

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal open_
        prompt = request.query.get("text_prompt", "")
        crowded = open_ >= capacity
        open_ += 1
        try:
            if (deed := bad.deed_for(prompt)) is not None:
                _print({"prompt": prompt, "is_bad": True, "is_crowded": crowded})
                return await bad.serve(request, deed)
            return await handler(request)
        finally:
            open_ -= 1
            for session in [one for one in server.sessions if one.ended != "running"]:
                server.sessions.remove(session)
                _print(_told(session, crowded))

    app = server.application()
    app.middlewares.append(watch)
    return app


def _told(session: ModelSession, crowded: bool) -> dict[str, Any]:
    return {
        "prompt": session.text_prompt,
        "is_crowded": crowded,
        "heard_at": list(session.heard_at),
        "said_at": list(session.said_at),
        "ended": session.ended,
    }


def _print(told: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    said = PIECES if "words" in sys.argv[4:] else ()
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), said))
