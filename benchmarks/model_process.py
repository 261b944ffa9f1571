"""The model's stand-in in a process of its own; tells what it saw when it is ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvloop

from benchmarks.sounds import model_packets
from personaplex_bridge.signals import until_signal
from personaplex_bridge.simulator.behaviours import Loop
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.web.hosting import hosted


async def main(speech: Path, sessions: int) -> None:
    packets = model_packets(speech)
    options = ModelOptions(prompt_ms=0, step_ms=0, sessions=sessions)
    server = ModelServer(options, behave=lambda: Loop(packets))
    async with hosted(server.application(), "127.0.0.1", 0) as port:
        print(port, flush=True)
        await until_signal()
    seen = [
        {
            "prompt": session.text_prompt,
            "heard_at": list(session.heard_at),
            "said_at": list(session.said_at),
            "ended": session.ended,
        }
        for session in server.sessions
    ]
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2])))
