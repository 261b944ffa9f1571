"""Leases in a real Redis server, shared by several bridges."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from personaplex_bridge.errors import LeaseLost, LeasesUnavailable, QueueFull
from personaplex_bridge.pool import redis_leases, redis_scripts
from personaplex_bridge.pool.leases import Lease, Refused, Slot
from personaplex_bridge.pool.redis_leases import RedisLeases, boot_time, margin_s
from tests.live.harness import until
from tests.redis.server import RedisServer

A, B, C = (Slot(f"ws://{name}/api/chat") for name in "abc")
TTL_S = 2.0


@asynccontextmanager
async def bridge(redis: RedisServer, ttl_s: float = TTL_S) -> AsyncIterator[RedisLeases]:
    """The leases of a bridge that lives."""
    leases = RedisLeases(redis.url, ttl_s)
    async with leases.tended():
        yield leases


@asynccontextmanager
async def dying_bridge(redis: RedisServer, ttl_s: float = TTL_S) -> AsyncIterator[RedisLeases]:
    """The leases of a bridge that neither renews nor gives back."""
    leases = RedisLeases(redis.url, ttl_s)
    try:
        yield leases
    finally:
        await leases.close()


async def take(
    leases: RedisLeases, *slots: Slot, call: str = "", obey: bool = True, warm: bool = False
) -> Lease | Refused:
    return await leases.take(slots, call, obey_queue=obey, warm=warm)


async def taken(leases: RedisLeases, *slots: Slot, call: str = "", warm: bool = False) -> Lease:
    lease = await take(leases, *slots, call=call, warm=warm)
    assert isinstance(lease, Lease), lease
    return lease


async def free_again(leases: RedisLeases, slot: Slot) -> Lease:
    """Ask for a slot until it is to be had."""
    async with asyncio.timeout(10):
        while not isinstance(lease := await take(leases, slot), Lease):
            await asyncio.sleep(0.02)
    return lease


# Taking


async def test_the_first_free_one_of_what_is_preferred_is_taken(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        assert (await taken(one, B, A)).slot == B
        assert (await taken(other, B, A)).slot == A
        assert await take(one, B, A) is Refused.TAKEN
        await until(lambda: A in one.elsewhere and B in other.elsewhere)


async def test_what_is_given_back_is_free_and_its_next_token_is_higher(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        first = await taken(one, A)
        one.release(first)
        second = await free_again(other, A)
        assert second.token > first.token
        one.release(first)
        await asyncio.sleep(0.1)
        assert await take(one, A) is Refused.TAKEN, "an old lease gives nothing back"


async def test_a_bridge_that_ends_gives_everything_back(redis: RedisServer) -> None:
    async with bridge(redis) as other:
        async with bridge(redis) as one:
            await taken(one, A)
        assert isinstance(await take(other, A), Lease)


async def test_our_own_spare_one_is_ours_to_take(redis: RedisServer) -> None:
    async with bridge(redis) as one:
        warm = await taken(one, A, warm=True)
        assert warm.spare
        assert await take(one, A, warm=True) is Refused.TAKEN
        call = await taken(one, A)
        assert (call.spare, call.continues) == (False, True)
        assert call.token > warm.token
        one.release(warm)
        await asyncio.sleep(TTL_S / 2)  # and renewals know it is another
        assert not call.is_lost
        assert await take(one, A) is Refused.TAKEN


async def test_of_many_who_ask_at_once_as_many_get_one_as_there_are(redis: RedisServer) -> None:
    slots = [Slot("ws://big/api/chat", number) for number in range(8)]
    async with contextlib.AsyncExitStack() as stack:
        bridges = [await stack.enter_async_context(bridge(redis, 10)) for _ in range(4)]
        asked = [take(each, *slots, call=f"CA{n}") for n in range(25) for each in bridges]
        leases = [answer for answer in await asyncio.gather(*asked) if isinstance(answer, Lease)]
        assert Counter(lease.slot for lease in leases) == Counter(slots)


async def test_takers_and_givers_for_a_while_never_share_a_slot(redis: RedisServer) -> None:
    slots, holders = [Slot("ws://big/api/chat", number) for number in range(3)], set[Slot]()
    count = 0

    async def come_and_go(leases: RedisLeases) -> None:
        nonlocal count
        for _ in range(40):
            lease = await take(leases, *slots)
            if isinstance(lease, Lease):
                assert lease.slot not in holders
                holders.add(lease.slot)
                count += 1
                await asyncio.sleep(0.003)
                holders.remove(lease.slot)
                leases.release(lease)

    async with contextlib.AsyncExitStack() as stack:
        bridges = [await stack.enter_async_context(bridge(redis, 10)) for _ in range(4)]
        await asyncio.gather(*(come_and_go(each) for each in bridges for _ in range(2)))
    assert count > 40


async def test_a_step_that_is_done_twice_takes_one_slot(redis: RedisServer) -> None:
    """A client whose connection breaks before the answer tries again."""
    async with bridge(redis) as one:
        names = ["ws://a/api/chat#0", "ws://b/api/chat#0"]
        step: list[str | int] = ["CA1", 0, 0, "the same nonce", 0, *names]
        first = await one._do(one._ask, redis_scripts.TAKE, *step)
        assert await one._do(one._ask, redis_scripts.TAKE, *step) == first
        assert (await taken(one, A, B)).slot == B


async def test_a_caller_who_hangs_up_meanwhile_gets_none(redis: RedisServer) -> None:
    async with bridge(redis) as one:
        taking = asyncio.create_task(take(one, A))
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await free_again(one, A)


# The line


async def test_callers_of_two_bridges_stand_in_one_line(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        busy = await taken(one, A, call="CA0")
        assert [await one.wait("CA1", 9), await other.wait("CA2", 9)] == [1, 2]
        assert [await one.wait("CA1", 9), await other.wait("CA2", 9)] == [1, 2]
        one.release(busy)
        async with asyncio.timeout(5):
            while await take(other, A, call="CA2") is Refused.TAKEN:
                await asyncio.sleep(0.01)
        assert await take(other, A, call="CA2") is Refused.BEHIND
        assert await take(one, A, call="CA3") is Refused.BEHIND
        assert await take(one, A, warm=True) is Refused.BEHIND
        first = await taken(one, A, call="CA1")
        assert await other.wait("CA2", 9) == 1
        one.release(first)
        await free_for(other, A, "CA2")
        assert await one.wait("CA4", 9) == 1


async def free_for(leases: RedisLeases, slot: Slot, call: str) -> None:
    async with asyncio.timeout(5):
        while not isinstance(await take(leases, slot, call=call), Lease):
            await asyncio.sleep(0.02)


async def test_who_comes_after_as_many_as_there_are_slots_is_refused(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        await one.wait("CA1", 9)
        assert isinstance(await take(other, A, B, call="CA9"), Lease)
        assert await take(other, A, B, call="CA8") is Refused.BEHIND
        assert isinstance(await take(other, A, B, call="CA7", obey=False), Lease)


async def test_the_line_has_an_end_and_can_be_left(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        assert [await one.wait("CA1", 2), await other.wait("CA2", 2)] == [1, 2]
        with pytest.raises(QueueFull):
            await other.wait("CA3", 2)
        await other.leave("CA1")
        assert [await other.wait("CA3", 2), await one.wait("CA2", 2)] == [2, 1]


async def test_who_no_longer_asks_is_forgotten(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_leases, "FORGOTTEN_S", 0.5)
    async with bridge(redis) as one:
        await one.wait("CA1", 9)
        async with asyncio.timeout(5):
            while await one.wait("CA2", 9) == 2:
                await asyncio.sleep(0.05)
        assert await one.wait("CA1", 9) == 2


async def test_no_server_stays_idle_for_one_who_does_not_ask(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bridge may be dead."""
    monkeypatch.setattr(redis_leases, "PRESENT_S", 0.5)
    async with bridge(redis) as one, bridge(redis) as other:
        assert [await one.wait("CA1", 9), await other.wait("CA2", 9)] == [1, 2]
        assert await take(other, A, call="CA2") is Refused.BEHIND
        async with asyncio.timeout(5):
            while not isinstance(await take(other, A, call="CA2"), Lease):
                assert await other.wait("CA2", 9) == 2
                await asyncio.sleep(0.05)
        assert await one.wait("CA1", 9) == 1


# Warm lines of others


async def test_a_caller_gets_what_another_bridge_keeps_warm(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        warm = await taken(one, A, warm=True)
        changed = asyncio.Event()
        warm.on_change = lambda _lease: changed.set()
        assert await take(other, A, call="CA1") is Refused.COMING
        async with asyncio.timeout(5):
            await changed.wait()
        assert warm.wanted
        one.release(warm)
        await asyncio.sleep(0.05)
        assert await take(one, A, warm=True) is Refused.TAKEN, "it is wanted by a caller"
        assert (await taken(other, A, call="CA1")).slot == A


async def test_what_a_call_has_is_nobody_elses(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        lease = await taken(one, A)
        assert await take(other, A, call="CA1") is Refused.TAKEN
        await asyncio.sleep(TTL_S / 2)
        assert not lease.wanted


async def test_another_bridges_warm_line_counts_as_free_in_line(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        await taken(one, A, warm=True)
        assert await other.wait("CA1", 9) == 1
        assert await take(one, A, call="CA2") is Refused.BEHIND, "CA1 is first"
        assert await take(other, A, call="CA1") is Refused.COMING


# Death and revival


async def test_a_lease_that_is_not_renewed_runs_out(redis: RedisServer) -> None:
    async with dying_bridge(redis) as one, bridge(redis) as other:
        lease = await taken(one, A)
        second = await free_again(other, A)
        assert lease.is_lost, "its holder stopped using it before another got it"
        assert second.token > lease.token


async def test_a_holder_stops_before_redis_gives_the_slot_to_another(redis: RedisServer) -> None:
    """By its own clock, from before it asked."""
    now_s = 100.0
    leases = RedisLeases(redis.url, 10, lambda: now_s)
    lease = await taken(leases, A)
    now_s = 100 + 10 - margin_s(10) - 0.01
    lease.check()
    now_s += 0.01
    with pytest.raises(LeaseLost):
        lease.check()
    now_s = 100
    assert lease.is_lost, "for good"
    await leases.close()


async def test_a_lease_is_renewed_for_as_long_as_its_bridge_lives(redis: RedisServer) -> None:
    async with bridge(redis) as one, bridge(redis) as other:
        lease = await taken(one, A)
        for _ in range(12):
            await asyncio.sleep(TTL_S / 6)
            assert await take(other, A) is Refused.TAKEN
        lease.check()


async def test_a_revived_bridge_does_not_renew_what_another_has(redis: RedisServer) -> None:
    async with dying_bridge(redis) as one, bridge(redis) as other:
        lease = await taken(one, A)
        second = await free_again(other, A)
        lease._lost, lease.deadline_s = False, float("inf")  # as if it had noticed nothing
        told = []
        lease.on_change = lambda _lease: told.append(True)
        await one._renew_all()
        assert lease.is_lost
        assert told == [True]
        await asyncio.sleep(TTL_S / 2)
        assert not second.is_lost


# Redis itself


async def test_a_new_redis_gives_out_nothing_for_one_ttl(new_redis: RedisServer) -> None:
    async with bridge(new_redis) as one:
        assert await take(one, A) is Refused.STARTING
        assert await one.wait("CA1", 9) == 1, "but callers get in line"
        assert isinstance(await free_again_for(one, A, "CA1"), Lease)


async def free_again_for(leases: RedisLeases, slot: Slot, call: str) -> Lease | Refused:
    async with asyncio.timeout(10):
        while (answer := await take(leases, slot, call=call)) is Refused.STARTING:
            await asyncio.sleep(0.05)
    return answer


async def test_a_redis_that_has_lost_its_data_learns_who_has_what(redis: RedisServer) -> None:
    async with bridge(redis, 4) as one, bridge(redis, 4) as other:
        lease = await taken(one, A)
        redis.kill()
        await redis.start()
        answers = set()
        async with asyncio.timeout(20):
            while (answer := await patiently(other, A, B)) is not Refused.TAKEN:
                answers.add(answer if isinstance(answer, Refused) else answer.slot)
                await asyncio.sleep(0.1)
        assert answers == {Refused.STARTING, B}, "never A"
        lease.check()


@pytest.mark.parametrize("key", ["leases", "tokens"])
async def test_a_redis_that_drops_a_key_gives_no_lease_twice(redis: RedisServer, key: str) -> None:
    async with bridge(redis, 4) as one, bridge(redis, 4) as other:
        lease = await taken(one, A)
        await redis.drop(key)
        async with asyncio.timeout(20):
            while (answer := await take(other, A)) is not Refused.TAKEN:
                assert answer is Refused.STARTING
                await asyncio.sleep(0.1)
        lease.check()
        assert (await free_again(other, B)).token > lease.token


async def patiently(leases: RedisLeases, *slots: Slot) -> Lease | Refused:
    """Take, though Redis may just be starting."""
    while True:
        with contextlib.suppress(LeasesUnavailable):
            return await take(leases, *slots)


async def test_a_redis_that_wakes_up_with_an_old_snapshot_is_corrected(redis: RedisServer) -> None:
    async with bridge(redis, 4) as one, bridge(redis, 4) as other:
        first = await taken(one, A)
        await redis.save()
        one.release(first)
        second = await free_again(other, A)
        assert await take(one, B) is not Refused.TAKEN
        redis.kill()
        await redis.start()
        async with asyncio.timeout(20):
            while isinstance(answer := await patiently(one, A, C), Refused):
                await asyncio.sleep(0.1)
        assert answer.slot == C
        second.check()


async def test_tokens_rise_though_redis_forgets_them(redis: RedisServer) -> None:
    async with bridge(redis, TTL_S) as one:
        first = await taken(one, A)
        one.release(first)
        redis.kill()
        await redis.start()
        await redis.season()
        second = await patiently(one, A)
        assert isinstance(second, Lease)
        assert second.token > first.token


async def test_while_redis_is_away_what_is_held_is_held_and_nothing_is_taken(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with bridge(redis, 6) as one:
        lease = await taken(one, A)
        redis.kill()
        with pytest.raises(LeasesUnavailable):
            await take(one, B)
        with pytest.raises(LeasesUnavailable):
            await one.wait("CA1", 9)
        assert not one.is_reachable
        await redis.start()
        await until(lambda: one.is_reachable)
        lease.check()
    told = [record.getMessage() for record in caplog.records]
    assert sum("can't be used" in line for line in told) == 1
    assert sum("answers again" in line for line in told) == 1


async def test_a_lease_is_lost_when_redis_is_away_for_too_long(redis: RedisServer) -> None:
    async with bridge(redis) as one:
        lease = await taken(one, A)
        lost = asyncio.Event()
        lease.on_change = lambda _lease: lost.set()
        redis.pause()  # it hangs
        try:
            async with asyncio.timeout(10):
                await lost.wait()
            with pytest.raises(LeaseLost):
                lease.check()
            with pytest.raises(LeasesUnavailable):
                await take(one, B)
        finally:
            redis.resume()


async def test_answers_that_come_too_late_are_nobodys(redis: RedisServer) -> None:
    """It hangs for longer than anybody waits, then does all that it was asked."""
    async with bridge(redis, 20) as one:
        redis.pause()
        asked = [take(one, A, B, call=f"CA{number}") for number in range(5)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {LeasesUnavailable}
        redis.resume()
        assert await one.wait("CA1", 9) == 1
        assert [await one.wait(f"CA{number}", 9) for number in (2, 3, 1)] == [2, 3, 1]
        lease = await taken(one, C, call="CA1")
        await asyncio.sleep(2.5)
        assert not lease.is_lost


@pytest.mark.parametrize("away_s", [0.4, 1.0])
async def test_a_lease_that_was_long_in_coming_is_renewed_in_time(
    redis: RedisServer, away_s: float
) -> None:
    """It counts from when it was asked for: half a second of it is left."""
    async with bridge(redis, 3.0) as one:
        for _ in range(3):
            await asyncio.sleep(0.3)
            redis.pause()
            await asyncio.sleep(away_s)
            asking = asyncio.create_task(taken(one, A, call="CA1"))
            await asyncio.sleep(1.85)
            redis.resume()
            lease = await asking
            if lease.deadline_s - boot_time() > 0.3:  # else this machine is too slow to tell
                break
            one.release(lease)
        await asyncio.sleep(1.5)
        assert not lease.is_lost


async def test_a_redis_that_is_not_there_to_begin_with(tmp_path: Path) -> None:
    leases = RedisLeases(f"unix://{tmp_path}/no.sock", TTL_S)
    with pytest.raises(LeasesUnavailable):
        async with leases.tended():
            pass


async def test_the_password_is_never_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer(tmp_path, "se/cret")
    leases = RedisLeases(server.url_with("wrong/cret"), TTL_S)
    await server.start()
    try:
        with pytest.raises(LeasesUnavailable) as caught:
            async with leases.tended():
                pass
        assert "cret" not in caplog.text + str(caught.value)
        assert "invalid username-password pair" in caplog.text
    finally:
        server.kill()
