"""The console command. Each group of commands is a module; each command imports only what it needs,
and this package nothing that isn't in the standard library: the gate's image has little else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from personaplex_bridge import __version__
from personaplex_bridge.cli import (
    bridge,
    dev,
    gate,
    history,
    rehearse,
    runpod,
    simulate,
    twilio,
)
from personaplex_bridge.cli.common import FAILED, INTERRUPTED, USAGE
from personaplex_bridge.errors import BridgeError, ConfigError

_DESCRIPTION = """\
Puts phone callers in live conversation with NVIDIA PersonaPlex: Twilio Media Streams on one
side, the model server's WebSocket on the other.

  personaplex-bridge demo        hear a whole call on this machine; no GPU, no account
  personaplex-bridge doctor      see what is missing, and how to mend it
  personaplex-bridge dev         take calls from your phone, on this machine
  personaplex-bridge serve       the bridge itself; settings come from the environment and .env
  personaplex-bridge runpod up   rent a GPU for the model
  personaplex-bridge rehearse    all that with RunPod, Twilio and ngrok played on this machine
  personaplex-bridge gate        what stands in front of a model server, beside the GPU
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        for wrong in error.wrong:
            print(f"error: {wrong}", file=sys.stderr)
        return USAGE
    except (BridgeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        for choice in getattr(error, "choices", ()):
            print(f"  {choice}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="personaplex-bridge",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (bridge, dev, history, simulate, twilio, runpod, gate, rehearse):
        group.add(commands)
    return parser
