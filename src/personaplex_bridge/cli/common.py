"""What all commands share: exit codes, the environment, the event loop."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from personaplex_bridge.errors import ConfigError, WrongValue

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def add_command(
    commands: Any, name: str, run: Any, help_: str, text: str
) -> argparse.ArgumentParser:
    """Add a command; `run` takes its arguments and returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def environment() -> dict[str, str]:
    """The environment, over what .env in this folder says."""
    from dotenv import dotenv_values

    try:
        file = dotenv_values(".env")
    except UnicodeDecodeError as error:
        wrong = WrongValue(".env", str(error.object[:20]), "text in UTF-8")
        raise ConfigError(wrong) from error
    return {**{name: value for name, value in file.items() if value is not None}, **os.environ}


def run(main_task: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end on the fastest event loop there is."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main_task)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:  # not made for Windows
        return asyncio.new_event_loop
    return new_event_loop
