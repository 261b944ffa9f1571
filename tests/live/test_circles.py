"""A call that is over goes away at once, its codecs too, without the garbage collector: whose
pauses other calls would hear, and which is in no hurry.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator

import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge import memory
from personaplex_bridge.audio.downlink import DownlinkTranscoder
from personaplex_bridge.audio.uplink import UplinkTranscoder
from personaplex_bridge.conversation import Conversation
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.pool.leases import Lease
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.simulator.caller import CallPlan
from tests.live.harness import bridge_to, raw_model
from tests.live.test_recovery import Models
from tests.virtual import in_virtual_time

OF_A_CALL = (
    BridgeSession,
    Conversation,
    UplinkTranscoder,
    DownlinkTranscoder,
    PreparedLine,
    Lease,
)


@pytest.fixture(autouse=True)
def nothing_logged() -> Iterator[None]:
    """What is logged in a test is kept, with the errors that it tells of."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def nothing_tidied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge itself calls the collector when nobody is calling."""
    monkeypatch.setattr(memory, "give_back", lambda: None)


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def there_are() -> list[str]:
    """What belongs to calls, of all that is there."""
    return sorted(type(one).__name__ for one in gc.get_objects() if type(one) in OF_A_CALL)


@pytest.mark.parametrize(
    "deeds",
    [(), ("dies",), ("closes",), ("falls silent",), ("dies at once",)],
    ids=lambda deeds: ", ".join(deeds) or "answers",
)
@in_virtual_time
async def test_nothing_of_a_call_waits_for_the_collector(deeds: tuple[str, ...]) -> None:
    before = there_are()
    async with raw_model(Models(*deeds)) as url, bridge_to(url) as line:
        with no_collector():
            await line.call(CallPlan("", b"", hang_up_after_s=12.0))
            await line.record()
            await asyncio.sleep(1.0)  # until both sockets are closed, and the lease given back
            assert there_are() == before


async def _never_ready(connection: ServerConnection) -> None:
    await connection.wait_closed()


@in_virtual_time
async def test_nothing_of_a_call_that_got_no_model_either() -> None:
    before = there_are()
    async with raw_model(_never_ready) as url, bridge_to(url) as line:
        with no_collector():
            report = await line.call(CallPlan("", b"", hang_up_after_s=60.0))
            await line.record()
            await asyncio.sleep(1.0)
            assert report.close_code == 1011
            assert there_are() == before
