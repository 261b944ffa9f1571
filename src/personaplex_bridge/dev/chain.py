"""Looking at every link between a phone and the model, one line each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from personaplex_bridge import logs
from personaplex_bridge.findings import Finding
from personaplex_bridge.numbers.probing import Prober

REACHABLE_WITHIN_S = 30.0
"""A new tunnel's name must get around first."""

LOOK_AGAIN_S = 1.0
WATCH_S = 30.0

Tell = Callable[[str], None]


async def look(prober: Prober, instance: str, *, signed: bool) -> AsyncIterator[Finding]:
    """The public address, and who is let in there; ends with the first thing that is wrong."""
    finding = await _reached(prober, instance)
    yield finding
    if not finding.is_well:
        return
    with _expecting_refusals():
        finding = await prober.refuses_strangers()
    yield finding
    if finding.is_well and signed:
        yield await prober.knows_twilio()


async def watch(prober: Prober, tell: Tell) -> None:
    """Tell when the public address doesn't lead here any more, and when it does again."""
    was_well = True
    while True:
        await asyncio.sleep(WATCH_S)
        finding = await prober.is_there()
        if finding.is_well != was_well:
            tell(str(finding))
        was_well = finding.is_well


async def _reached(prober: Prober, instance: str) -> Finding:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + REACHABLE_WITHIN_S
    while True:
        finding = await prober.is_there(instance)
        if finding.is_well or loop.time() > deadline_s:
            return finding
        await asyncio.sleep(LOOK_AGAIN_S)


@contextmanager
def _expecting_refusals() -> Iterator[None]:
    """The bridge warns of strangers that it refuses; this one is us."""
    log = logging.getLogger(logs.NAME)

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("refused a webhook")

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)
