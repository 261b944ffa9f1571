"""Leases and the line of waiting callers, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from personaplex_bridge.errors import LeaseLost, QueueFull
from personaplex_bridge.pool.leases import (
    FORGOTTEN_S,
    PRESENT_S,
    Lease,
    MemoryLeases,
    Refused,
    Slot,
)
from tests.virtual import in_virtual_time

T = TypeVar("T")
A, B = Slot("ws://a/api/chat"), Slot("ws://b/api/chat")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that must not suspend."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    result: T = ended.value.value
    return result


def take(
    leases: MemoryLeases, *slots: Slot, call: str = "", obey: bool = True, warm: bool = False
) -> Lease | Refused:
    return at_once(leases.take(slots or (A, B), call, obey_queue=obey, warm=warm))


def taken(leases: MemoryLeases, *slots: Slot, call: str = "", obey: bool = True) -> Lease:
    lease = take(leases, *slots, call=call, obey=obey)
    assert isinstance(lease, Lease)
    return lease


@in_virtual_time
async def test_the_first_free_one_of_what_is_preferred_is_taken() -> None:
    leases = MemoryLeases()
    assert taken(leases, B, A).slot == B
    assert taken(leases, B, A).slot == A
    assert take(leases, B, A) is Refused.TAKEN


@in_virtual_time
async def test_what_is_given_back_is_free_and_its_next_token_is_higher() -> None:
    leases = MemoryLeases()
    first = taken(leases, A)
    leases.release(first)
    second = taken(leases, A)
    assert second.token > first.token
    leases.release(first)
    assert take(leases, A) is Refused.TAKEN, "an old lease gives nothing back"


@in_virtual_time
async def test_a_spare_one_is_for_callers_and_not_for_another_warm_line() -> None:
    leases = MemoryLeases()
    warm = take(leases, A, warm=True)
    assert isinstance(warm, Lease)
    assert warm.spare
    assert not warm.continues
    assert take(leases, A, warm=True) is Refused.TAKEN
    calls = taken(leases, A)
    assert (calls.spare, calls.continues) == (False, True)
    leases.release(warm)
    assert take(leases, A) is Refused.TAKEN


@in_virtual_time
async def test_nothing_here_is_ever_lost() -> None:
    lease = taken(MemoryLeases(), A)
    await asyncio.sleep(1e6)
    lease.check()
    told = []
    lease.on_change = lambda _lease: told.append(True)
    lease.lose()
    assert lease.is_lost
    assert told == [True]
    with pytest.raises(LeaseLost):
        lease.check()


@in_virtual_time
async def test_callers_get_slots_in_the_order_in_which_they_came() -> None:
    leases = MemoryLeases()
    first = taken(leases, A, call="CA1")
    assert [at_once(leases.wait(call, 10)) for call in ("CA2", "CA3", "CA2")] == [1, 2, 1]
    leases.release(first)
    assert take(leases, A, call="CA3") is Refused.BEHIND
    assert take(leases, A, call="CA4") is Refused.BEHIND
    assert take(leases, A, warm=True) is Refused.BEHIND
    second = taken(leases, A, call="CA2")
    leases.release(second)
    assert taken(leases, A, call="CA3").slot == A
    assert at_once(leases.wait("CA5", 10)) == 1, "who has got one is out of the line"


@in_virtual_time
async def test_who_comes_after_as_many_as_there_are_slots_is_refused() -> None:
    leases = MemoryLeases()
    at_once(leases.wait("CA1", 10))
    assert taken(leases, A, B, call="CA9").slot == A, "one is ahead, two are free"
    assert take(leases, A, B, call="CA8") is Refused.BEHIND, "one is ahead, one is free"
    assert taken(leases, A, B, call="CA1").slot == B


@in_virtual_time
async def test_a_call_in_progress_does_not_wait_in_line() -> None:
    leases = MemoryLeases()
    at_once(leases.wait("CA1", 10))
    assert taken(leases, A, call="CA0", obey=False).slot == A


@in_virtual_time
async def test_who_no_longer_asks_is_forgotten() -> None:
    leases = MemoryLeases()
    at_once(leases.wait("CA1", 10))
    await asyncio.sleep(FORGOTTEN_S - 1)
    assert at_once(leases.wait("CA2", 10)) == 2
    await asyncio.sleep(1)
    assert at_once(leases.wait("CA2", 10)) == 1
    assert at_once(leases.wait("CA1", 10)) == 2


@in_virtual_time
async def test_no_server_stays_idle_for_one_who_does_not_ask_though_they_keep_their_place() -> None:
    leases = MemoryLeases()
    at_once(leases.wait("CA1", 10))
    at_once(leases.wait("CA2", 10))
    assert take(leases, A, call="CA2") is Refused.BEHIND
    await asyncio.sleep(PRESENT_S)
    assert at_once(leases.wait("CA2", 10)) == 2
    lease = taken(leases, A, call="CA2")
    leases.release(lease)
    assert at_once(leases.wait("CA1", 10)) == 1
    assert take(leases, A, call="CA3") is Refused.BEHIND, "now they ask again"


@in_virtual_time
async def test_who_leaves_is_out_of_the_line() -> None:
    leases = MemoryLeases()
    at_once(leases.wait("CA1", 10))
    at_once(leases.wait("CA2", 10))
    at_once(leases.leave("CA1"))
    at_once(leases.leave("CA1"))
    assert at_once(leases.wait("CA2", 10)) == 1


@in_virtual_time
async def test_the_line_has_an_end() -> None:
    leases = MemoryLeases()
    at_once(leases.wait("CA1", 2))
    at_once(leases.wait("CA2", 2))
    with pytest.raises(QueueFull):
        at_once(leases.wait("CA3", 2))
    assert at_once(leases.wait("CA2", 2)) == 2, "who is in stays in"
