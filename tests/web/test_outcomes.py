"""How streams have ended, remembered for a while."""

from __future__ import annotations

import asyncio

from personaplex_bridge.clock import LoopClock
from personaplex_bridge.record import EndedBy, Ending
from personaplex_bridge.web.outcomes import KEPT_S, MAX_OUTCOMES, Outcomes
from tests.clocks import HandClock
from tests.virtual import in_virtual_time

OVER = Ending(EndedBy.CALLER, "the caller hung up", 1000)
FAILED = Ending(EndedBy.MODEL, "gone", 1011)
LEFT = Ending(EndedBy.BRIDGE, "shutting down", 1001)


def test_the_last_ending_counts() -> None:
    outcomes = Outcomes(HandClock())
    assert outcomes.of("CA1") is None
    outcomes.ended("CA1", FAILED)
    outcomes.ended("CA2", LEFT)
    outcomes.ended("CA1", OVER)
    assert (outcomes.of("CA1"), outcomes.of("CA2")) == (OVER, LEFT)
    assert outcomes.of("CA1") == OVER, "asked again"


def test_nobodys_stream() -> None:
    """One that was refused before its call was known must not answer for those without a call."""
    outcomes = Outcomes(HandClock())
    outcomes.ended("", OVER)
    assert outcomes.of("") is None


def test_they_are_forgotten_in_time() -> None:
    clock = HandClock()
    outcomes = Outcomes(clock)
    outcomes.ended("CA1", OVER)
    clock.at_s += KEPT_S - 1
    outcomes.ended("CA2", OVER)
    assert outcomes.of("CA1") == OVER
    clock.at_s += 2
    assert (outcomes.of("CA1"), outcomes.of("CA2"), len(outcomes)) == (None, OVER, 1)


def test_they_are_bounded() -> None:
    outcomes = Outcomes(HandClock())
    for number in range(MAX_OUTCOMES + 5):
        outcomes.ended(f"CA{number}", OVER)
    assert len(outcomes) <= MAX_OUTCOMES
    assert outcomes.of("CA0") is None
    assert outcomes.of(f"CA{MAX_OUTCOMES + 4}") == OVER


@in_virtual_time
async def test_waiting_until_twilio_has_asked() -> None:
    clock = LoopClock()
    outcomes = Outcomes(clock)
    assert await outcomes.all_asked(1001, 3.0)
    outcomes.ended("CA1", LEFT)
    outcomes.ended("CA2", LEFT)
    outcomes.ended("CA3", FAILED)
    loop = asyncio.get_running_loop()
    loop.call_later(0.5, outcomes.of, "CA1")
    loop.call_later(1.0, outcomes.of, "CA2")
    assert await outcomes.all_asked(1001, 3.0)
    assert clock.now() == 1.0
    outcomes.ended("CA2", LEFT)  # the session tells it again, once it has closed the socket
    assert await outcomes.all_asked(1001, 3.0)
    assert clock.now() == 1.0
    assert not await outcomes.all_asked(1011, 3.0)
    assert clock.now() == 4.0
