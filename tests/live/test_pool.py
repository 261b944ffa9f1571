"""Which model server takes which call, over real sockets and in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge.clock import LoopClock
from personaplex_bridge.errors import ModelBusy, ModelClosed, ModelError, ModelUnavailable
from personaplex_bridge.personaplex.prepared import PreparedLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool import ModelPool, SeatState
from personaplex_bridge.pool.health import JITTER, RETRY_MAX_S
from personaplex_bridge.pool.pool import STREAM_TIMEOUT_S
from personaplex_bridge.pool.usual import REMEMBERED_CALLS, USUAL_CALLS
from personaplex_bridge.pool.warming import WARM_MAX_AGE_S
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import COLD, HOST, bridge_to, raw_model, standin
from tests.virtual import in_virtual_time

PROMPT_S = 2.0
OPTIONS = ModelOptions("silence", prompt_ms=int(PROMPT_S * 1000))
TEACHER = Role("NATF2", "You are a wise and friendly teacher.")
CLERK = Role("NATM1", "You work for a bank.")
WARM, CONNECTING, IDLE = SeatState.WARM, SeatState.CONNECTING, SeatState.IDLE
DOWN, BUSY = SeatState.DOWN, SeatState.BUSY


@asynccontextmanager
async def pool_to(
    url: str,
    capacity: int = 1,
    warm_role: Role | None = TEACHER,
    handshake_timeout_s: float = 30.0,
) -> AsyncIterator[ModelPool]:
    pool = ModelPool(
        [ServerAddress(url, capacity)], warm_role=warm_role, handshake_timeout_s=handshake_timeout_s
    )
    async with pool.tended():
        yield pool


@asynccontextmanager
async def pooled(
    capacity: int = 1, warm_role: Role | None = TEACHER, options: ModelOptions = OPTIONS
) -> AsyncIterator[tuple[ModelPool, ModelServer]]:
    """A pool and a server that must never see one connection too many."""
    options = ModelOptions(
        options.behave, options.prompt_ms, options.step_ms, capacity, options.faults
    )
    async with standin(options, LoopClock()) as (url, model):
        async with pool_to(url, capacity, warm_role) as pool:
            yield pool, model
        assert model.crowded == 0
    assert {task.get_name() for task in asyncio.all_tasks()} & {"model-line", "tend-pool"} == set()


def state(pool: ModelPool) -> SeatState:
    """Of the only seat."""
    ((seat, _),) = pool.states.items()
    return seat


def now() -> float:
    return asyncio.get_running_loop().time()


def roles(model: ModelServer) -> list[str]:
    """Whose prompts the server was given, connection by connection."""
    return [session.text_prompt for session in model.sessions]


async def call(pool: ModelPool, sid: str, role: Role, seconds: float = 1.0) -> float:
    """A call of so many seconds; how long it waited for its line."""
    began = now()
    async with pool.line(sid, role):
        waited_s = now() - began
        await asyncio.sleep(seconds)
    return waited_s


async def from_webhook(pool: ModelPool, sid: str, role: Role) -> None:
    """A call from its beginning."""
    await pool.reserve(sid, role)
    await call(pool, sid, role)


# A line is kept warm


@in_virtual_time
async def test_a_line_is_warm_once_its_prompts_are_taken_in() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(0.1)
        assert state(pool) is CONNECTING
        await asyncio.sleep(PROMPT_S)
        assert state(pool) is WARM
        assert roles(model) == [TEACHER.text_prompt]


@in_virtual_time
async def test_a_call_for_the_warm_role_gets_its_line_at_once() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(PROMPT_S + 1)
        assert await call(pool, "CA1", TEACHER) == 0.0
        assert roles(model) == [TEACHER.text_prompt]


@in_virtual_time
async def test_after_a_call_the_next_line_is_warmed() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(PROMPT_S + 1)
        await call(pool, "CA1", TEACHER)
        await asyncio.sleep(PROMPT_S + 1)
        assert state(pool) is WARM
        assert len(model.sessions) == 2, "a used line is never used again"


@in_virtual_time
async def test_a_call_for_another_role_connects_anew_after_the_warm_line_is_closed() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(PROMPT_S + 1)
        waited_s = await call(pool, "CA1", CLERK)
        assert waited_s == pytest.approx(PROMPT_S, abs=0.1)
        assert roles(model) == [TEACHER.text_prompt, CLERK.text_prompt]
        assert model.sessions[1].used == ("NATM1.pt", CLERK.text_prompt)


@in_virtual_time
async def test_a_warm_line_is_kept_through_hours_of_waiting_and_renewed() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(WARM_MAX_AGE_S - 1)
        assert len(model.sessions) == 1
        await asyncio.sleep(1 + PROMPT_S + 1)
        assert state(pool) is WARM
        assert len(model.sessions) == 2
        await asyncio.sleep(3600 * 3)
        assert state(pool) is WARM
        assert len(model.sessions) == 8


@in_virtual_time
async def test_without_a_warm_role_no_line_is_kept() -> None:
    async with pooled(warm_role=None) as (pool, model):
        await asyncio.sleep(60)
        assert (state(pool), len(model.sessions)) == (IDLE, 0)
        assert await call(pool, "CA1", CLERK) == pytest.approx(PROMPT_S, abs=0.1)
        await asyncio.sleep(60)
        assert (state(pool), len(model.sessions)) == (IDLE, 1)


@in_virtual_time
async def test_the_role_of_most_calls_becomes_the_warm_one() -> None:
    async with pooled() as (pool, model):
        for number in range(3):
            await from_webhook(pool, f"CA{number}", CLERK)
        await asyncio.sleep(PROMPT_S + 1)
        assert roles(model)[-1] == CLERK.text_prompt
        for number in range(3):
            await from_webhook(pool, f"CA{number}", TEACHER)
        await asyncio.sleep(PROMPT_S + 1)
        assert roles(model)[-1] == TEACHER.text_prompt, "the configured one, if none had more"


@in_virtual_time
async def test_only_the_last_calls_count() -> None:
    async with pooled() as (pool, model):
        for number in range(2 * REMEMBERED_CALLS):
            await from_webhook(pool, f"CA{number}", CLERK)
        for number in range(REMEMBERED_CALLS // 2):
            await from_webhook(pool, f"CA{number}", TEACHER)
        await asyncio.sleep(PROMPT_S + 1)
        assert roles(model)[-1] == TEACHER.text_prompt


@in_virtual_time
async def test_lines_that_a_call_gets_after_its_first_do_not_count() -> None:
    """They have what was said in it in their prompts, if RECAP is on."""
    recap = Role(CLERK.voice, f"{CLERK.text_prompt} The last you said was: my PIN is 1234.")
    async with pooled() as (pool, model):
        await from_webhook(pool, "CA1", CLERK)
        for _ in range(2 * USUAL_CALLS):
            await call(pool, "CA1", recap)
        await asyncio.sleep(PROMPT_S + 1)
        assert roles(model)[-1] == TEACHER.text_prompt


# From the webhook on


@in_virtual_time
async def test_from_the_webhook_on_the_model_takes_in_its_prompts() -> None:
    async with pooled(warm_role=None) as (pool, model):
        await pool.reserve("CA1", CLERK)
        assert pool.free == 0
        await asyncio.sleep(PROMPT_S + 1)
        assert await call(pool, "CA1", CLERK) == 0.0
        assert len(model.sessions) == 1
        assert pool.free == 1


@in_virtual_time
async def test_a_call_that_comes_in_the_middle_uses_that_very_connection() -> None:
    async with pooled(warm_role=None) as (pool, model):
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(0.5)
        assert await call(pool, "CA1", CLERK) == pytest.approx(PROMPT_S - 0.5, abs=0.1)
        assert len(model.sessions) == 1


@in_virtual_time
async def test_a_reserved_line_whose_call_never_comes_is_free_again() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(PROMPT_S + 1)
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(STREAM_TIMEOUT_S - 0.1)
        assert (pool.free, state(pool)) == (0, BUSY)
        await asyncio.sleep(0.2 + PROMPT_S)
        assert (pool.free, state(pool)) == (1, WARM)
        assert roles(model)[-1] == TEACHER.text_prompt


@in_virtual_time
async def test_a_reserved_warm_line_whose_call_never_comes_stays_warm() -> None:
    async with pooled() as (pool, model):
        await asyncio.sleep(PROMPT_S + 1)
        await pool.reserve("CA1", TEACHER)
        await asyncio.sleep(STREAM_TIMEOUT_S + 1)
        assert (pool.free, state(pool), len(model.sessions)) == (1, WARM, 1)


@in_virtual_time
async def test_a_webhook_whose_stream_never_comes() -> None:
    """The whole way, with Twilio's stand-in."""
    async with (
        standin(OPTIONS, LoopClock()) as (url, model),
        bridge_to(url, COLD, clock=LoopClock()) as line,
    ):
        plan = CallPlan("", b"", hang_up_after_s=1.0, faults=CallFaults(never_connects=True))
        await line.call(plan, LoopClock())
        busy = await line.call(plan, LoopClock())
        assert busy.outcome == "rejected: busy"
        await asyncio.sleep(STREAM_TIMEOUT_S + 1)
        later = await line.call(CallPlan("", b"", hang_up_after_s=4.0), LoopClock())
        assert later.outcome == "the caller hung up"
        assert model.crowded == 0


@in_virtual_time
async def test_a_late_call_gets_a_line_all_the_same() -> None:
    async with pooled(warm_role=None) as (pool, model):
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(STREAM_TIMEOUT_S + 1)
        assert await call(pool, "CA1", CLERK) == pytest.approx(PROMPT_S, abs=0.1)
        assert len(model.sessions) == 2


@in_virtual_time
async def test_a_webhook_that_comes_twice_takes_one_seat_and_waits_anew() -> None:
    async with pooled(capacity=2, warm_role=None) as (pool, model):
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(STREAM_TIMEOUT_S - 1)
        await pool.reserve("CA1", CLERK)
        await asyncio.sleep(STREAM_TIMEOUT_S - 1)
        assert pool.free == 1
        assert await call(pool, "CA1", CLERK) == 0.0
        assert len(model.sessions) == 1


@pytest.mark.parametrize("role", [CLERK, TEACHER])
def test_a_webhook_in_the_middle_of_its_own_call_does_not_touch_it(role: Role) -> None:
    """Whoever names a call in progress gets no line of it."""

    @in_virtual_time
    async def test() -> None:
        async with pooled() as (pool, model):
            async with pool.line("CA1", CLERK) as line:
                with pytest.raises(ModelBusy):
                    await pool.reserve("CA1", role)
                await asyncio.sleep(STREAM_TIMEOUT_S + 5)
                assert (pool.free, state(pool)) == (0, BUSY)
                with pytest.raises(ModelBusy):
                    await pool.reserve("CA2", CLERK)
                await line.send_audio(b"\x00")  # it is still open
            assert pool.free == 1
            assert roles(model)[-1] == CLERK.text_prompt

    test()


@in_virtual_time
async def test_two_streams_of_one_call_never_share_a_line() -> None:
    async with pooled() as (pool, _):
        async with pool.line("CA1", CLERK):
            with pytest.raises(ModelBusy):
                async with pool.line("CA1", CLERK):
                    pass
            assert state(pool) is BUSY
        assert pool.free == 1


@in_virtual_time
async def test_calls_without_a_name_are_different_calls() -> None:
    async with pooled(capacity=2, warm_role=None) as (pool, model):
        async with pool.line("", CLERK), pool.line("", CLERK):
            assert pool.free == 0
        assert len(model.sessions) == 2


# Busy


@in_virtual_time
async def test_nobody_gets_a_line_while_all_are_taken() -> None:
    async with pooled(warm_role=None) as (pool, model):
        async with pool.line("CA1", CLERK):
            with pytest.raises(ModelBusy):
                await pool.reserve("CA2", CLERK)
            with pytest.raises(ModelBusy):
                await call(pool, "CA3", CLERK)
        assert len(model.sessions) == 1
        await pool.reserve("CA2", CLERK)


@in_virtual_time
async def test_two_seats_take_two_calls_and_one_line_is_warm() -> None:
    async with pooled(capacity=2) as (pool, model):
        await asyncio.sleep(PROMPT_S + 1)
        assert pool.states == {WARM: 1, IDLE: 1}
        async with pool.line("CA1", TEACHER):
            await asyncio.sleep(PROMPT_S + 1)
            assert pool.states == {BUSY: 1, WARM: 1}
            async with pool.line("CA2", CLERK):
                assert pool.free == 0
            await asyncio.sleep(PROMPT_S + 1)
            assert pool.states == {BUSY: 1, WARM: 1}
        await asyncio.sleep(PROMPT_S + 1)
        assert pool.states == {WARM: 1, IDLE: 1}
        assert len(model.sessions) == 4


@in_virtual_time
async def test_another_role_takes_the_idle_seat_and_leaves_the_warm_line() -> None:
    async with pooled(capacity=2) as (pool, model):
        await call(pool, "CA1", TEACHER)
        await asyncio.sleep(PROMPT_S + 1)
        async with pool.line("CA2", CLERK):
            assert pool.states == {BUSY: 1, WARM: 1}
        assert len(model.sessions) == 3


@in_virtual_time
async def test_a_call_that_gives_up_waiting_frees_its_seat() -> None:
    async with pooled(warm_role=None) as (pool, _):
        waiting = asyncio.create_task(call(pool, "CA1", CLERK))
        await asyncio.sleep(PROMPT_S / 2)
        assert pool.free == 0
        waiting.cancel()
        await asyncio.wait({waiting})
        assert pool.free == 1
        assert await call(pool, "CA2", TEACHER) == pytest.approx(PROMPT_S, abs=0.2)


# Lines that die


class Mortal:
    """A model server that can be killed, and comes back on the same port."""

    def __init__(self) -> None:
        self.model = ModelServer(OPTIONS, LoopClock())
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}{CHAT_PATH}"

    async def live(self) -> None:
        site = hosted(self.model.application(), HOST, self.port)
        self.port = await self._stack.enter_async_context(site)

    async def die(self) -> None:
        await self._stack.aclose()


@in_virtual_time
async def test_a_warm_line_that_the_server_closes_is_renewed() -> None:
    connections = 0

    async def closes_after_a_minute(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send(b"\x00")
        await asyncio.sleep(60)

    async with raw_model(closes_after_a_minute) as url, pool_to(url) as pool:
        await asyncio.sleep(59)
        assert (state(pool), connections) == (WARM, 1)
        await asyncio.sleep(1.5)
        assert (state(pool), connections) == (DOWN, 1)
        await asyncio.sleep(1)
        assert (state(pool), connections) == (WARM, 2)


@in_virtual_time
async def test_a_server_that_restarts_gets_its_line_back() -> None:
    server = Mortal()
    await server.live()
    async with pool_to(server.url) as pool:
        await asyncio.sleep(PROMPT_S + 1)
        assert state(pool) is WARM
        await server.die()
        await asyncio.sleep(0.5)
        assert state(pool) is DOWN
        assert pool.free == 1, "a call may try"
        with pytest.raises(ModelUnavailable):
            await call(pool, "CA1", TEACHER)
        await asyncio.sleep(20)
        await server.live()
        await asyncio.sleep(RETRY_MAX_S + PROMPT_S + 1)
        assert state(pool) is WARM
        assert server.model.crowded == 0
    await server.die()


@in_virtual_time
async def test_a_server_that_cannot_be_reached_is_tried_again_less_and_less_often() -> None:
    attempts = []

    async def refuses(socket: ServerConnection) -> None:
        attempts.append(now())
        socket.transport.abort()

    async with raw_model(refuses) as url, pool_to(url):
        await asyncio.sleep(200)
    waits = [later - earlier for earlier, later in pairwise(attempts)]
    longest = [1, 2, 4, 8, 16, 30, 30, 30, 30]
    for waited_s, most_s in zip(waits, longest, strict=False):
        assert (1 - JITTER) * most_s <= waited_s <= most_s + 0.1
    assert len(waits) in (9, 10, 11)


@in_virtual_time
async def test_a_line_that_never_shakes_hands_is_down_and_tried_again() -> None:
    arrivals = []

    async def is_mute(socket: ServerConnection) -> None:
        arrivals.append(now())
        await socket.wait_closed()

    async with raw_model(is_mute) as url, pool_to(url, handshake_timeout_s=5.0) as pool:
        await asyncio.sleep(5.5)
        assert state(pool) is DOWN
        with pytest.raises(ModelError, match="no handshake"):
            await call(pool, "CA1", TEACHER)
        assert len(arrivals) == 2


@in_virtual_time
async def test_a_line_that_dies_in_a_call_tells_the_call() -> None:
    async def closes_after_a_second(socket: ServerConnection) -> None:
        await socket.send(b"\x00")
        await asyncio.sleep(1)

    async with raw_model(closes_after_a_second) as url, pool_to(url, warm_role=None) as pool:
        async with pool.line("CA1", CLERK) as line:
            with pytest.raises(ModelClosed):
                await line.receive()
        assert pool.free == 1


# A prepared line let go in each phase, and the one after it


@pytest.mark.parametrize("phase_s", [None, 0.0, 0.001, 1.0, PROMPT_S, PROMPT_S + 1])
def test_the_next_line_waits_until_the_one_before_is_closed(phase_s: float | None) -> None:
    """Three, one after the other, each let go while the one before may still be closing."""

    @in_virtual_time
    async def test() -> None:
        async with standin(OPTIONS, LoopClock()) as (url, model):
            lines: list[PreparedLine] = []
            for role in (TEACHER, CLERK, TEACHER, CLERK):
                after = lines[-1].task if lines else None
                if lines:
                    lines[-1].drop()
                lines.append(PreparedLine(url, role, None, 30.0, after))
                if phase_s is not None:
                    await asyncio.sleep(phase_s)
            await lines[-1].line()
            assert lines[-1].is_ready
            assert [line.is_open for line in lines[:-1]] == [False] * 3
            assert model.crowded == 0
            assert model.sessions[-1].used == ("NATM1.pt", CLERK.text_prompt)
            await ended(lines[-1])

    test()


@in_virtual_time
async def test_a_line_let_go_while_the_one_before_is_in_use_never_connects() -> None:
    async with standin(OPTIONS, LoopClock()) as (url, model):
        first = PreparedLine(url, TEACHER, None, 30.0)
        await first.line()
        second = PreparedLine(url, CLERK, None, 30.0, after=first.task)
        await asyncio.sleep(5)
        second.drop()
        third = PreparedLine(url, TEACHER, None, 30.0, after=second.task)
        await asyncio.sleep(5)
        assert len(model.sessions) == 1
        assert first.is_ready
        first.drop()
        await third.line()
        assert (len(model.sessions), model.crowded) == (2, 0)
        await ended(third)


@in_virtual_time
async def test_whoever_waits_for_a_line_that_is_let_go_is_told() -> None:
    async with standin(OPTIONS, LoopClock()) as (url, _):
        line = PreparedLine(url, TEACHER, None, 30.0)
        waiting = asyncio.create_task(line.line())
        await asyncio.sleep(0.5)
        await ended(line)
        with pytest.raises(ModelUnavailable):
            await waiting


async def ended(line: PreparedLine) -> None:
    """Let a line go, and wait until it is closed."""
    line.drop()
    await asyncio.wait({line.task})


@in_virtual_time
async def test_whoever_stops_waiting_for_a_line_leaves_it_alone() -> None:
    async with standin(OPTIONS, LoopClock()) as (url, _):
        line = PreparedLine(url, TEACHER, None, 30.0)
        waiting = asyncio.create_task(line.line())
        await asyncio.sleep(0.5)
        waiting.cancel()
        await line.line()
        assert line.is_ready
        await ended(line)
        assert (line.is_ready, line.is_open, line.failure) == (False, False, None)


# Everything at once


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("capacity", [1, 2])
def test_hours_of_calls_leave_every_seat_free_and_never_one_connection_too_many(
    seed: int, capacity: int
) -> None:
    @in_virtual_time
    async def test() -> None:
        dice = random.Random(seed)
        options = ModelOptions("silence", prompt_ms=int(PROMPT_S * 1000))
        warm_role = dice.choice([None, TEACHER])
        async with pooled(capacity, warm_role, options) as (pool, _):
            callers = [
                asyncio.create_task(_stray_calls(pool, random.Random(f"{seed}/{number}"), number))
                for number in range(4)
            ]
            await asyncio.gather(*callers)
            await asyncio.sleep(STREAM_TIMEOUT_S + PROMPT_S + RETRY_MAX_S + 1)
            assert pool.free == capacity
            assert pool.states[WARM] == (warm_role is not None)

    test()


async def _stray_calls(pool: ModelPool, dice: random.Random, number: int) -> None:
    """Webhooks with and without a call, calls with and without a webhook, hung up at any time."""
    for count in range(60):
        sid, role = f"CA{number}-{count}", dice.choice([TEACHER, CLERK])
        await asyncio.sleep(dice.choice([0, 0.001, 0.5, 3, 20, 100]))
        with contextlib.suppress(ModelBusy):  # as many callers will be
            if dice.random() < 0.7:
                await pool.reserve(sid, role)
                await asyncio.sleep(dice.choice([0, 0, 0.3, PROMPT_S, 10, 14.999, 15, 16]))
            if dice.random() < 0.3:
                continue
            try:
                async with asyncio.timeout(dice.choice([0, 0.001, 1, PROMPT_S, 10, 60])):
                    await call(pool, sid, dice.choice([role, role, CLERK]), 30)
            except TimeoutError:
                pass


@pytest.mark.parametrize("seed", range(2))
def test_a_server_that_dies_again_and_again_ends_no_more_than_its_calls(seed: int) -> None:
    @in_virtual_time
    async def test() -> None:
        dice = random.Random(seed)
        server = Mortal()
        await server.live()
        async with pool_to(server.url) as pool:
            callers = [
                asyncio.create_task(_stubborn_calls(pool, random.Random(f"{seed}/{n}"), n))
                for n in range(3)
            ]
            while not all(caller.done() for caller in callers):
                await asyncio.sleep(dice.uniform(0, 120))
                await server.die()
                await asyncio.sleep(dice.choice([0, 0.01, 5, 60]))
                await server.live()
            await asyncio.gather(*callers)
            await asyncio.sleep(STREAM_TIMEOUT_S + RETRY_MAX_S + PROMPT_S + 1)
            assert (pool.free, state(pool)) == (1, WARM)
            assert server.model.crowded == 0
        await server.die()

    test()


async def _stubborn_calls(pool: ModelPool, dice: random.Random, number: int) -> None:
    for count in range(40):
        sid = f"CA{number}-{count}"
        await asyncio.sleep(dice.uniform(0, 60))
        with contextlib.suppress(ModelError):  # the server dies at random
            await pool.reserve(sid, dice.choice([TEACHER, CLERK]))
            await asyncio.sleep(dice.choice([0, 0.3, 20]))
            async with pool.line(sid, TEACHER) as line:
                with contextlib.suppress(TimeoutError):  # the caller hangs up
                    async with asyncio.timeout(dice.uniform(0, 60)):
                        while True:
                            await line.receive()
