"""Several model servers: which one takes a call, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from personaplex_bridge.errors import (
    LeaseLost,
    ModelBusy,
    ModelClosed,
    ModelError,
    ModelUnavailable,
    QueueFull,
)
from personaplex_bridge.personaplex.prepared import USUAL_PROMPT_STEPS, handshake_deadline_s
from personaplex_bridge.personaplex.voices import MAX_ENCODED_PROMPT_BYTES, Role
from personaplex_bridge.pool import ModelPool, SeatState
from personaplex_bridge.pool.health import FAILURES, RETRY_MAX_S, TRY_ANYWAY_S
from personaplex_bridge.pool.leases import MemoryLeases
from personaplex_bridge.pool.pool import KEPT_S, STREAM_TIMEOUT_S
from personaplex_bridge.recovery import MAX_PAUSE_S
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.values import ServerAddress
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import CLOCK, HOST, bridge_to, raw_model, standin
from tests.live.test_pool import CLERK, OPTIONS, PROMPT_S, TEACHER, Mortal, call
from tests.virtual import in_virtual_time

NOBODY = f"ws://{HOST}:9/api/chat"


@asynccontextmanager
async def pool_of(
    *urls: str,
    capacity: int = 1,
    warm_role: Role | None = None,
    handshake_timeout_s: float = 30.0,
    queue_limit: int = 100,
) -> AsyncIterator[ModelPool]:
    pool = ModelPool(
        [ServerAddress(url, capacity) for url in urls],
        warm_role=warm_role,
        handshake_timeout_s=handshake_timeout_s,
        queue_limit=queue_limit,
    )
    async with pool.tended():
        yield pool


@asynccontextmanager
async def standins(
    count: int, options: ModelOptions = OPTIONS
) -> AsyncIterator[tuple[list[str], list[ModelServer]]]:
    """Servers that must never see one connection too many."""
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(standin(options, CLOCK)) for _ in range(count)]
        yield [url for url, _ in found], [model for _, model in found]
        assert [model.crowded for _, model in found] == [0] * count


def circuits(pool: ModelPool) -> list[str]:
    return [server.circuit for server in pool.servers]


async def fail(pool: ModelPool, times: int, role: Role = CLERK) -> None:
    """A call that gets no line, again and again."""
    for _ in range(times):
        with pytest.raises(ModelError) as caught:
            await call(pool, "bad", role)
        assert not isinstance(caught.value, ModelBusy)


# Which server


@in_virtual_time
async def test_each_server_takes_one_call() -> None:
    async with standins(3) as (urls, models), pool_of(*urls) as pool:
        assert pool.free == 3
        calls = [asyncio.create_task(call(pool, f"CA{n}", CLERK, 10)) for n in range(3)]
        await asyncio.sleep(PROMPT_S + 1)
        assert pool.free == 0
        assert [server.busy for server in pool.servers] == [1, 1, 1]
        with pytest.raises(ModelBusy, match="every line to the model servers is taken"):
            await call(pool, "CA9", CLERK)
        await asyncio.gather(*calls)
        assert [len(model.sessions) for model in models] == [1, 1, 1]
        assert pool.free == 3


@in_virtual_time
async def test_a_server_takes_as_many_calls_as_its_capacity_says() -> None:
    options = ModelOptions("silence", prompt_ms=100, sessions=2)
    async with standins(2, options) as (urls, models), pool_of(*urls, capacity=2) as pool:
        calls = [asyncio.create_task(call(pool, f"CA{n}", CLERK, 5)) for n in range(4)]
        await asyncio.sleep(1)
        assert pool.free == 0
        await asyncio.gather(*calls)
        assert [len(model.sessions) for model in models] == [2, 2]


@in_virtual_time
async def test_calls_are_spread_over_the_servers() -> None:
    options = ModelOptions("silence", prompt_ms=100, sessions=4)
    async with (
        standins(2, options) as (urls, models),
        pool_of(*urls, capacity=4) as pool,
        pool.line("CA1", CLERK),
        pool.line("CA2", CLERK),
        pool.line("CA3", CLERK),
    ):
        assert sorted(len(model.sessions) for model in models) == [1, 2]


@in_virtual_time
async def test_the_line_that_is_warm_comes_first_wherever_it_is() -> None:
    async with standins(3) as (urls, models), pool_of(*urls, warm_role=TEACHER) as pool:
        await asyncio.sleep(PROMPT_S + 1)
        assert pool.states == {SeatState.WARM: 1, SeatState.IDLE: 2}
        async with asyncio.timeout(0.001), pool.line("CA1", TEACHER):
            assert sum(len(model.sessions) for model in models) == 1


@in_virtual_time
async def test_one_line_is_kept_warm_among_all_servers() -> None:
    async with standins(3) as (urls, _), pool_of(*urls, warm_role=TEACHER) as pool:
        async with pool.line("CA1", TEACHER), pool.line("CA2", TEACHER):
            await asyncio.sleep(PROMPT_S + 1)
            assert pool.states == {SeatState.BUSY: 2, SeatState.WARM: 1}
            async with pool.line("CA3", TEACHER):
                assert pool.states == {SeatState.BUSY: 3}
        await asyncio.sleep(PROMPT_S + 1)
        assert pool.states == {SeatState.WARM: 1, SeatState.IDLE: 2}


# A server that fails


@in_virtual_time
async def test_a_call_whose_model_failed_gets_another_server() -> None:
    async def dies(socket: ServerConnection) -> None:
        await socket.send(b"\x00")
        await asyncio.sleep(1)

    async with (
        raw_model(dies) as bad,
        standins(1) as (urls, models),
        pool_of(bad, *urls) as pool,
    ):
        with pytest.raises(ModelClosed):
            async with pool.line("CA1", CLERK) as line:
                await line.receive()
        assert await call(pool, "CA1", CLERK) == pytest.approx(PROMPT_S, abs=0.1)
        assert len(models[0].sessions) == 1
        assert pool.servers[0].last_failure == "ModelClosed"


@in_virtual_time
async def test_a_failure_that_a_call_tells_of_counts_too() -> None:
    """A model that is stuck: only the session sees that."""
    async with standins(2) as (urls, models), pool_of(*urls) as pool:
        with pytest.raises(ExceptionGroup):
            async with pool.line("CA1", CLERK), asyncio.TaskGroup() as group:
                group.create_task(_says("the model has said nothing for 20 s"))
        await call(pool, "CA1", CLERK)
        assert [len(model.sessions) for model in models] == [1, 1]


async def _says(what: str) -> None:
    raise ModelError(what)


@in_virtual_time
async def test_a_call_that_just_ends_is_no_failure() -> None:
    async with standins(2) as (urls, models), pool_of(*urls) as pool:
        for number in range(10):
            with contextlib.suppress(ValueError):
                async with pool.line(f"CA{number}", CLERK):
                    raise ValueError
        assert pool.servers[0].last_failure is None
        assert sum(len(model.sessions) for model in models) == 10


async def dies_after_its_handshake(socket: ServerConnection) -> None:
    await socket.send(b"\x00")
    with contextlib.suppress(ConnectionClosed):
        await socket.recv()
    socket.transport.abort()


async def lose(pool: ModelPool, sid: str, role: Role = TEACHER) -> None:
    """A call that gets a line, and loses it when it says something."""
    async with pool.line(sid, role) as line:
        await line.send_audio(b"\x00")
        while True:
            await line.receive()


@in_virtual_time
async def test_a_server_whose_lines_die_in_calls_is_left_alone() -> None:
    """However long its lines stand idle: with a warm line, it would get every caller first."""
    async with (
        raw_model(dies_after_its_handshake) as bad,
        standins(1) as (urls, models),
        pool_of(bad, *urls, warm_role=TEACHER) as pool,
    ):
        lost = 0
        for number in range(10):
            await asyncio.sleep(20)
            try:
                async with asyncio.timeout(PROMPT_S + 1):
                    await lose(pool, f"CA{number}")
            except ModelClosed:
                lost += 1
                await call(pool, f"CA{number}", TEACHER, 20)
            except TimeoutError:
                pass
        assert lost == FAILURES
        assert len(models[0].sessions) >= 10


@in_virtual_time
async def test_the_circuit_of_a_server_whose_lines_die_in_calls_opens() -> None:
    async with raw_model(dies_after_its_handshake) as bad, pool_of(bad) as pool:
        for number in range(FAILURES):
            assert circuits(pool) == ["closed"]
            with pytest.raises(ModelClosed):
                await lose(pool, f"CA{number}")
            await asyncio.sleep(KEPT_S + 0.1)
        assert circuits(pool) == ["open"]


@in_virtual_time
async def test_a_line_that_stands_does_not_hide_that_others_fail() -> None:
    """On a server of several slots."""
    connections = 0

    async def serves_the_first(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await socket.send(b"\x00")
            await socket.wait_closed()
        socket.transport.abort()

    async with (
        raw_model(serves_the_first) as url,
        pool_of(url, capacity=2) as pool,
        pool.line("CA1", CLERK),
    ):
        for _ in range(FAILURES):
            assert circuits(pool) == ["closed"]
            await fail(pool, 1)
            await asyncio.sleep(0.1)
        assert circuits(pool) == ["open"]
        with pytest.raises(ModelUnavailable):
            await pool.reserve("CA2", CLERK)


@in_virtual_time
async def test_the_failed_server_is_tried_again_if_there_is_no_other() -> None:
    server = Mortal()
    await server.live()
    async with pool_of(server.url) as pool:
        await server.die()
        await fail(pool, 5)
        assert circuits(pool) == ["open"]
        await server.live()
        assert await call(pool, "bad", CLERK) == pytest.approx(PROMPT_S, abs=0.1)
        assert circuits(pool) == ["closed"]
    await server.die()


@in_virtual_time
async def test_a_new_call_is_told_when_every_server_is_down() -> None:
    async with pool_of(NOBODY, NOBODY.replace("9", "7")) as pool:
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(60)
        assert circuits(pool) == ["open", "closed"], "the first is asked, the other did no wrong"
        await pool.reserve("CA2", CLERK)
        await asyncio.sleep(60)
        with pytest.raises(ModelUnavailable, match="every model server is down"):
            await pool.reserve("CA3", CLERK)
        with pytest.raises(ModelUnavailable, match="every model server is down"):
            await pool.reserve("", CLERK)
        assert pool.free == 0


@in_virtual_time
async def test_a_server_that_comes_back_is_found_by_asking_and_gets_a_trial() -> None:
    server = Mortal()
    await server.live()
    async with pool_of(server.url) as pool:
        await server.die()
        await fail(pool, 3)
        assert circuits(pool) == ["open"]
        await server.live()
        await asyncio.sleep(RETRY_MAX_S + 1)
        assert circuits(pool) == ["half-open"]
        assert not server.model.sessions, "asking opens no session"
        await pool.reserve("CA1", CLERK)
        with pytest.raises(ModelBusy):
            await pool.reserve("CA2", CLERK)
        await asyncio.sleep(PROMPT_S + 0.1)
        assert circuits(pool) == ["closed"]
        assert await call(pool, "CA1", CLERK) == 0.0
    await server.die()


@in_virtual_time
async def test_a_trial_that_is_given_up_is_none() -> None:
    server = Mortal()
    await server.live()
    async with pool_of(server.url) as pool:
        await server.die()
        await fail(pool, 3)
        await server.live()
        await asyncio.sleep(RETRY_MAX_S + 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROMPT_S / 2):
                await call(pool, "CA1", CLERK)
        await asyncio.sleep(1)
        assert circuits(pool) == ["half-open"]
        await pool.reserve("CA2", CLERK)
    await server.die()


@in_virtual_time
async def test_a_warm_line_is_the_trial_and_a_caller_may_have_it() -> None:
    server = Mortal()
    await server.live()
    async with pool_of(server.url, warm_role=TEACHER) as pool:
        await server.die()
        await asyncio.sleep(20)
        assert circuits(pool) == ["open"]
        await server.live()
        async with asyncio.timeout(RETRY_MAX_S + 1):
            while pool.states != {SeatState.CONNECTING: 1}:
                await asyncio.sleep(0.1)
        assert circuits(pool) == ["half-open"]
        await pool.reserve("CA1", TEACHER)
        await call(pool, "CA1", TEACHER)
        assert (circuits(pool), server.model.crowded) == (["closed"], 0)
        assert len(server.model.sessions) <= 2
    await server.die()


@in_virtual_time
async def test_a_mute_server_costs_few_callers_their_time() -> None:
    """It answers a plain GET, and takes connections, but never shakes hands."""
    arrivals = 0

    async def is_mute(socket: ServerConnection) -> None:
        nonlocal arrivals
        arrivals += 1
        await socket.wait_closed()

    async with (
        raw_model(is_mute) as mute,
        standins(1) as (urls, _),
        pool_of(mute, *urls, handshake_timeout_s=5.0) as pool,
    ):
        waits = []
        for number in range(20):
            with contextlib.suppress(ModelError):
                waits.append(await call(pool, f"CA{number}", CLERK))
            await asyncio.sleep(60)
        assert len(waits) == 19
        assert arrivals == 1, "while the other is free"


@in_virtual_time
async def test_asking_is_gentle() -> None:
    asked: list[float] = []
    connections = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal connections
        connections += "Upgrade" in request.headers
        asked.append(asyncio.get_running_loop().time())
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/api/chat", answer)
    async with (
        hosted(app, HOST, 0) as port,
        pool_of(f"ws://{HOST}:{port}/api/chat", warm_role=TEACHER) as pool,
    ):
        await asyncio.sleep(290)
        assert circuits(pool) == ["open"]
        assert connections == 1, "only the first; then it is asked"
        assert len(asked) <= 1 + 5 + 290 / (0.8 * RETRY_MAX_S)
        await asyncio.sleep(2 * TRY_ANYWAY_S)
        assert connections in (2, 3), "a trial every five minutes, whatever it answers"


@in_virtual_time
async def test_a_server_that_does_nothing_wrong_is_never_asked() -> None:
    upgrades = []

    async def note(request: web.Request, _: web.StreamResponse) -> None:
        upgrades.append("Upgrade" in request.headers)

    app = ModelServer(OPTIONS, CLOCK).application()
    app.on_response_prepare.append(note)
    async with (
        hosted(app, HOST, 0) as port,
        pool_of(f"ws://{HOST}:{port}/api/chat", warm_role=TEACHER) as pool,
    ):
        for number in range(5):
            await call(pool, f"CA{number}", TEACHER)
            await asyncio.sleep(60)
    assert upgrades == [True] * len(upgrades)


# The seat of a call whose line failed


@asynccontextmanager
async def lost_by(sid: str, *others: str) -> AsyncIterator[ModelPool]:
    """A call has just lost its line."""
    async with raw_model(dies_after_its_handshake) as bad, pool_of(bad, *others) as pool:
        with pytest.raises(ModelClosed):
            await lose(pool, sid)
        yield pool


@in_virtual_time
async def test_nobody_else_gets_the_seat_of_a_call_that_tries_again() -> None:
    async with lost_by("CA1") as pool:
        await asyncio.sleep(MAX_PAUSE_S)
        for sid in ("CA2", ""):
            with pytest.raises(ModelBusy):
                await pool.reserve(sid, CLERK)
        with pytest.raises(ModelBusy):
            await lose(pool, "CA3")
        with pytest.raises(ModelClosed):
            await lose(pool, "CA1")


@in_virtual_time
async def test_it_is_kept_for_a_moment_only() -> None:
    assert MAX_PAUSE_S < KEPT_S
    async with lost_by("CA1") as pool:
        assert not pool.is_taken, "a bridge that drains doesn't wait for it"
        await asyncio.sleep(KEPT_S - 0.1)
        assert pool.free == 0
        await asyncio.sleep(0.2)
        assert pool.free == 1
        await pool.reserve("CA2", CLERK)


@in_virtual_time
async def test_it_is_given_back_at_once_when_the_caller_hangs_up() -> None:
    async with lost_by("CA1") as pool:
        await pool.leave("CA1")
        assert pool.free == 1


@in_virtual_time
async def test_it_is_given_back_at_once_when_the_call_gets_a_better_one() -> None:
    async with standins(1) as (urls, models), lost_by("CA1", *urls) as pool:
        assert pool.free == 1
        async with pool.line("CA1", CLERK):
            assert len(models[0].sessions) == 1
            assert pool.free == 1, "the first"


@in_virtual_time
async def test_a_worse_one_is_none() -> None:
    async with raw_model(dies_after_its_handshake) as bad, pool_of(NOBODY, bad) as pool:
        await fail(pool, 1)
        await asyncio.sleep(10)
        assert circuits(pool) == ["open", "closed"]
        for _ in range(FAILURES - 1):
            with pytest.raises(ModelClosed):
                await lose(pool, "CA1")


@in_virtual_time
async def test_a_call_that_comes_back_by_its_webhook_gets_it() -> None:
    async with lost_by("CA1") as pool:
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(KEPT_S + 1)
        assert (pool.is_taken, pool.free) == (True, 0)
        await asyncio.sleep(STREAM_TIMEOUT_S)
        assert (pool.is_taken, pool.free) == (False, 1)


@in_virtual_time
async def test_a_call_without_a_name_keeps_none() -> None:
    async with lost_by("") as pool:
        assert pool.free == 1


# The line of waiting callers


@in_virtual_time
async def test_callers_who_wait_get_servers_in_order() -> None:
    async with standins(1) as (urls, _), pool_of(*urls) as pool:
        got = []

        async def wait_and_call(sid: str) -> None:
            while True:
                with contextlib.suppress(ModelBusy):
                    await pool.reserve(sid, CLERK)
                    break
                await pool.wait(sid)
                await asyncio.sleep(2)
            got.append(sid)
            await call(pool, sid, CLERK, 5)

        callers = []
        for number in range(6):
            callers.append(asyncio.create_task(wait_and_call(f"CA{number}")))
            await asyncio.sleep(0.7)
        await asyncio.gather(*callers)
        assert got == [f"CA{number}" for number in range(6)]


@in_virtual_time
async def test_a_new_caller_does_not_overtake_those_who_wait() -> None:
    async with standins(1) as (urls, _), pool_of(*urls) as pool:
        async with pool.line("CA1", CLERK):
            assert await pool.wait("CA2") == 1
        with pytest.raises(ModelBusy, match="others are ahead in line"):
            await pool.reserve("CA3", CLERK)
        await pool.leave("CA2")
        await pool.reserve("CA3", CLERK)


@in_virtual_time
async def test_a_call_in_progress_overtakes_those_who_wait() -> None:
    async with standins(1) as (urls, _), pool_of(*urls) as pool:
        async with pool.line("CA1", CLERK):
            await pool.wait("CA2")
        assert await call(pool, "CA1", CLERK) == pytest.approx(PROMPT_S, abs=0.1)


@in_virtual_time
async def test_callers_who_wait_get_what_is_kept_warm() -> None:
    async with standins(1) as (urls, models), pool_of(*urls, warm_role=TEACHER) as pool:
        async with pool.line("CA1", CLERK):
            await pool.wait("CA2")
        await asyncio.sleep(PROMPT_S)
        assert await pool.wait("CA2") == 1
        await pool.reserve("CA2", CLERK)
        await call(pool, "CA2", CLERK)
        assert models[0].crowded == 0


@in_virtual_time
async def test_the_line_has_an_end() -> None:
    async with standins(1) as (urls, _), pool_of(*urls, queue_limit=2) as pool:
        assert [await pool.wait(sid) for sid in ("CA1", "CA2")] == [1, 2]
        with pytest.raises(QueueFull):
            await pool.wait("CA3")


# Leases


class LosingLeases(MemoryLeases):
    """As if another bridge took them."""

    def lose_all(self) -> None:
        leases, self._leases = self._leases, {}
        for lease in leases.values():
            lease.lose()


@pytest.mark.parametrize("after_s", [0, 0.01, 1, PROMPT_S + 1])
def test_a_lost_lease_ends_the_connection_in_each_phase(after_s: float) -> None:
    @in_virtual_time
    async def test() -> None:
        leases = LosingLeases()
        async with standin(OPTIONS, CLOCK) as (url, model):
            pool = ModelPool([ServerAddress(url)], leases)
            async with pool.tended():
                calling = asyncio.create_task(_listen(pool))
                await asyncio.sleep(after_s)
                leases.lose_all()
                with pytest.raises(LeaseLost):
                    await calling
                assert pool.free == 1
                assert pool.servers[0].last_failure is None, "the server is not to blame"
                await asyncio.sleep(0.5)
                assert await call(pool, "CA2", CLERK) == pytest.approx(PROMPT_S, abs=0.3)
            assert model.crowded == 0

    test()


async def _listen(pool: ModelPool) -> None:
    async with pool.line("CA1", CLERK) as line:
        while True:
            await line.receive()


@in_virtual_time
async def test_nothing_is_sent_once_a_lease_is_lost() -> None:
    leases = LosingLeases()
    async with standin(OPTIONS, CLOCK) as (url, model):
        pool = ModelPool([ServerAddress(url)], leases)
        async with pool.tended():
            async with pool.line("CA1", CLERK) as line:
                leases.lose_all()
                with pytest.raises(LeaseLost):
                    await line.send_audio(b"\x00")
            await asyncio.sleep(1)
    assert model.sessions[0].messages_in == 0
    assert model.sessions[0].ended != "running"


@in_virtual_time
async def test_a_lost_reservation_is_none() -> None:
    leases = LosingLeases()
    async with standin(OPTIONS, CLOCK) as (url, model):
        pool = ModelPool([ServerAddress(url)], leases)
        async with pool.tended():
            await pool.reserve("CA1", CLERK)
            await asyncio.sleep(1)
            leases.lose_all()
            assert pool.free == 1
            await call(pool, "CA1", CLERK)
            await asyncio.sleep(STREAM_TIMEOUT_S)
            assert pool.free == 1
    assert model.crowded == 0


@in_virtual_time
async def test_a_call_that_lost_its_lease_does_not_end_the_next_ones() -> None:
    leases = LosingLeases()
    async with standin(OPTIONS, CLOCK) as (url, model):
        pool = ModelPool([ServerAddress(url)], leases)
        async with pool.tended(), contextlib.AsyncExitStack() as first:
            await first.enter_async_context(pool.line("CA1", CLERK))
            leases.lose_all()
            await asyncio.sleep(0.2)
            async with pool.line("CA2", CLERK) as line:
                await first.aclose()
                assert pool.free == 0
                await line.send_audio(b"\x00")
            assert pool.free == 1
    assert model.crowded == 0


# Deadlines


def test_a_very_long_prompt_gets_more_time() -> None:
    usual, long = Role("NATF2", "You are kind. " * 20), Role("NATF2", "You are kind. " * 400)
    other = Role("NATF2", "ありがとう" * 100)
    assert handshake_deadline_s(30, usual) == 30
    assert handshake_deadline_s(30, long) > 6 * 30
    assert handshake_deadline_s(30, other) == 30 * other.prompt_steps / USUAL_PROMPT_STEPS > 150
    longest = Role("NATF2", "a" * MAX_ENCODED_PROMPT_BYTES)
    assert handshake_deadline_s(30, longest) < 360


# From outside


@in_virtual_time
async def test_health_tells_of_each_server_without_its_address() -> None:
    async with (
        standin(OPTIONS, CLOCK) as (url, _),
        bridge_to(url) as line,
        aiohttp.ClientSession() as http,
        http.get(line.webhook.replace("/voice/inbound", "/healthz")) as response,
    ):
        text, body = await response.text(), await response.json()
    assert body["servers"] == [
        {"circuit": "closed", "busy": 0, "capacity": 1, "last_failure": None}
    ]
    assert body["leases"] == "ok"
    assert url.split("/")[2] not in text


# Everything at once


@pytest.mark.parametrize("warm", [True, False])
def test_two_hundred_callers_at_once_on_twenty_servers(warm: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        options = ModelOptions("silence", prompt_ms=500)
        outcomes: Counter[str] = Counter()
        async with standins(20, options) as (urls, models):
            async with pool_of(*urls, warm_role=TEACHER if warm else None) as pool:

                async def once(sid: str) -> None:
                    try:
                        await pool.reserve(sid, CLERK)
                        await asyncio.sleep(0.3)
                        await call(pool, sid, CLERK, 20)
                        outcomes["served"] += 1
                    except ModelBusy:
                        outcomes["busy"] += 1

                await asyncio.gather(*(once(f"CA{number}") for number in range(200)))
                await asyncio.sleep(1)
                assert pool.free == 20
            assert sum(len(model.sessions) for model in models) <= 22
        assert outcomes == {"served": 20, "busy": 180}

    test()
