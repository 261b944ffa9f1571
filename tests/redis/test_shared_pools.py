"""Bridges that share model servers by a real Redis, and one that is stopped in the middle of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge import doctor
from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.errors import LeaseLost, LeasesUnavailable, ModelBusy, ModelClosed
from personaplex_bridge.personaplex.client import PersonaPlexLine
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool import ModelPool, SeatState
from personaplex_bridge.pool.leases import Lease, Slot
from personaplex_bridge.pool.redis_leases import WATCH_S, RedisLeases
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from tests.live.harness import HOST, raw_model, standin, until
from tests.redis.server import RedisServer

TTL_S, NEVER_S = 2.0, 3600.0
OPTIONS = ModelOptions("silence", prompt_ms=100)
CLERK = Role("NATM1", "You work for a bank.")
TEACHER = Role("NATF2", "You are a wise and friendly teacher.")


@asynccontextmanager
async def pool(
    redis: RedisServer, *urls: str, warm: bool = False, ttl_s: float = TTL_S
) -> AsyncIterator[ModelPool]:
    """The pool of one of the bridges."""
    addresses = [ServerAddress(url) for url in urls]
    pool = ModelPool(addresses, RedisLeases(redis.url, ttl_s), warm_role=TEACHER if warm else None)
    async with pool.tended():
        yield pool


@asynccontextmanager
async def model() -> AsyncIterator[tuple[str, ModelServer]]:
    """A server that must never see two connections."""
    async with standin(OPTIONS, SYSTEM_CLOCK) as (url, server):
        yield url, server
        assert server.crowded == 0


async def test_a_call_of_another_bridge_keeps_ours_out(redis: RedisServer) -> None:
    async with model() as (url, server), pool(redis, url) as one, pool(redis, url) as other:
        async with one.line("CA1", CLERK):
            with pytest.raises(ModelBusy):
                await other.reserve("CA2", CLERK)
            await until(lambda: other.free == 0)
            assert other.states == {SeatState.ELSEWHERE: 1}
            assert [report.busy for report in other.servers] == [1]
        await until_reserved(other, "CA2")
        async with other.line("CA2", CLERK):
            assert one.servers[0].capacity == 1
        assert len(server.sessions) == 2


async def until_reserved(pool: ModelPool, call: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                return await pool.reserve(call, CLERK)
            except ModelBusy:
                await asyncio.sleep(0.05)


async def test_a_warm_line_is_given_up_for_another_bridges_caller(redis: RedisServer) -> None:
    async with model() as (url, server), pool(redis, url, warm=True) as one:
        await until(lambda: one.states == {SeatState.WARM: 1})
        async with pool(redis, url) as other:
            await other.reserve("CA1", CLERK)
            async with other.line("CA1", CLERK):
                assert len(server.sessions) == 2
            await until(lambda: one.states == {SeatState.WARM: 1}, 10)
            assert other.free == 1


async def test_two_bridges_keep_one_line_warm_each(redis: RedisServer) -> None:
    async with (
        model() as (url, _),
        model() as (url2, _),
        pool(redis, url, url2, warm=True) as one,
        pool(redis, url, url2, warm=True) as other,
    ):
        for each in (one, other):
            await until(lambda each=each: each.states[SeatState.WARM] == 1, 10)  # type: ignore[misc]
        async with one.line("CA1", TEACHER), one.line("CA2", CLERK):
            assert one.free == 0


async def test_a_call_in_progress_takes_the_other_bridges_warm_line_in_the_end(
    redis: RedisServer,
) -> None:
    """Its own server is gone for good."""
    async with model() as (url, _), pool(redis, url, warm=True) as one:
        await until(lambda: one.states == {SeatState.WARM: 1})
        async with pool(redis, url) as other, other.line("CA1", CLERK) as line:
            await line.send_audio(b"\x00")


async def test_calls_go_on_while_redis_is_away_for_a_moment(redis: RedisServer) -> None:
    async with (
        model() as (url, _),
        pool(redis, url, ttl_s=8) as one,
        one.line("CA1", CLERK) as line,
    ):
        redis.kill()
        with pytest.raises(LeasesUnavailable):
            await one.reserve("CA2", CLERK)
        assert not one.leases_reachable
        await redis.start()
        await until(lambda: one.leases_reachable)
        await line.send_audio(b"\x00")


async def test_calls_end_when_redis_is_away_for_too_long(redis: RedisServer) -> None:
    async with model() as (url, server), pool(redis, url) as one:
        async with one.line("CA1", CLERK) as line:
            redis.kill()
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(_listen(line), 10)
        await until(lambda: server.sessions[0].ended != "running")


async def _listen(line: PersonaPlexLine) -> None:
    while True:
        await line.receive()


async def test_a_call_whose_server_is_gone_gets_another_bridges_warm_one(
    redis: RedisServer,
) -> None:
    """Rather than the one that is gone, though that is free at once."""

    async def dies(socket: ServerConnection) -> None:
        await socket.send(b"\x00")

    async with (
        raw_model(dies) as bad,
        model() as (url, server),
        pool(redis, url, warm=True, ttl_s=8) as other,
    ):
        await until(lambda: other.states == {SeatState.WARM: 1})
        async with pool(redis, bad, url, ttl_s=8) as both:
            with pytest.raises(ModelClosed):
                async with both.line("CA1", CLERK) as line:
                    await _listen(line)
            async with both.line("CA1", CLERK):
                assert len(server.sessions) == 2


async def test_the_server_of_a_call_that_tries_again_is_not_given_to_another_bridge(
    redis: RedisServer,
) -> None:
    connections = 0

    async def dies_once(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send(b"\x00")
        if connections > 1:
            await socket.wait_closed()

    async with (
        raw_model(dies_once) as url,
        pool(redis, url, ttl_s=8) as one,
        pool(redis, url, ttl_s=8) as other,
    ):
        with pytest.raises(ModelClosed):
            async with one.line("CA1", CLERK) as line:
                await _listen(line)
        with pytest.raises(ModelBusy):
            await other.reserve("CA2", CLERK, patient=False)
        async with one.line("CA1", CLERK) as line:
            await line.send_audio(b"\x00")
        await until_reserved(other, "CA2")


async def test_a_call_tries_its_server_again_while_redis_is_away(redis: RedisServer) -> None:
    connections = 0

    async def dies_once(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send(b"\x00")
        if connections > 1:
            await socket.wait_closed()

    async with raw_model(dies_once) as url, pool(redis, url, ttl_s=8) as one:
        with pytest.raises(ModelClosed):
            async with one.line("CA1", CLERK) as line:
                await _listen(line)
        redis.kill()
        async with one.line("CA1", CLERK) as line:
            await line.send_audio(b"\x00")


async def test_a_bridge_that_drains_keeps_nothing_warm(redis: RedisServer) -> None:
    async with model() as (url, _), pool(redis, url, warm=True) as one:
        await until(lambda: one.states == {SeatState.WARM: 1})
        one.retire()
        await until(lambda: one.states == {SeatState.IDLE: 1})
        async with pool(redis, url, warm=True) as other:
            await until(lambda: other.states == {SeatState.WARM: 1}, 10)


# A process that is stopped


class Relay:
    """Between a process and a model server: counts what the process sends."""

    def __init__(self, server: str) -> None:
        self._to = urlsplit(server)
        self.received_bytes = 0
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._serve, HOST, 0)
        async with server:
            self.url = f"ws://{HOST}:{server.sockets[0].getsockname()[1]}{CHAT_PATH}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = await asyncio.open_connection(self._to.hostname, self._to.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, to[1], count=True))
                group.create_task(self._pass(to[0], writer))
        except* OSError:
            pass
        finally:
            for end in (writer, to[1]):
                end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool = False
    ) -> None:
        while data := await reader.read(65536):
            self.received_bytes += count * len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # either end's end is both ends'


@asynccontextmanager
async def holder(redis: RedisServer, url: str, watch_s: float = WATCH_S) -> AsyncIterator[Process]:
    """A bridge's process in a call."""
    arguments = ["-m", "tests.redis.holder", redis.url, url, str(TTL_S), str(watch_s)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("watch_s", [WATCH_S, NEVER_S])
async def test_a_process_that_was_stopped_sends_nothing_once_its_lease_is_anothers(
    redis: RedisServer, watch_s: float
) -> None:
    """Not a byte: no audio, no ping, no close frame; even if its timers come too late."""
    async with (
        standin(OPTIONS, SYSTEM_CLOCK) as (url, server),
        Relay(url).running() as relay,
        holder(redis, relay.url, watch_s) as process,
    ):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"talks\n"
        await until(lambda: len(server.sessions) == 1 and server.sessions[0].frames_in > 5)
        process.send_signal(signal.SIGSTOP)
        leases = RedisLeases(redis.url, TTL_S)
        async with leases.tended():
            lease = await taken_by(leases, Slot(relay.url))
            sent_bytes = relay.received_bytes
            assert server.sessions[0].ended == "running", "its socket is still there"
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                assert await process.stdout.readline() == b"LeaseLost\n"
                await process.wait()
            assert relay.received_bytes == sent_bytes
            assert process.returncode == 0
            await until(lambda: server.sessions[0].ended != "running")
            lease.check()


async def taken_by(leases: RedisLeases, slot: Slot) -> Lease:
    async with asyncio.timeout(20):
        while True:
            lease = await leases.take([slot], "CA2", obey_queue=True, warm=False)
            if isinstance(lease, Lease):
                return lease
            await asyncio.sleep(0.1)


async def test_a_process_that_is_killed_leaves_its_server_to_others_in_one_ttl(
    redis: RedisServer,
) -> None:
    async with model() as (url, server), holder(redis, url) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"talks\n"
        process.kill()
        async with pool(redis, url) as one:
            await until_reserved(one, "CA2")
            async with one.line("CA2", CLERK):
                assert len(server.sessions) == 2


async def test_doctor_finds_the_redis(
    redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not await doctor.examine({"PORT": "0", "LEASES_URL": redis.url})
    assert "LEASES_URL: the Redis there answers" in capsys.readouterr().out
