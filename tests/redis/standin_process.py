"""A model server's stand-in as a process: says its port, and when it is ended, what it saw."""

from __future__ import annotations

import json

import uvloop

from personaplex_bridge.signals import until_signal
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.web.hosting import hosted


async def main() -> None:
    server = ModelServer(ModelOptions("tone", prompt_ms=600))
    async with hosted(server.application(), "127.0.0.1", 0) as port:
        print(port, flush=True)
        await until_signal()
    talked = [session for session in server.sessions if session.frames_in]
    crosstalk = [
        session
        for session in server.sessions
        if session.used not in (None, (session.voice, session.text_prompt))
    ]
    seen = {
        "connections": len(server.sessions),
        "conversations": len(talked),
        "connections_beside_another": server.crowded,
        "with_anothers_prompt": len(crosstalk),
    }
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
