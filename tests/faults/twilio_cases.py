"""Faults of Twilio's side, and of whoever pretends to be Twilio."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from personaplex_bridge.config import Settings
from personaplex_bridge.simulator.faults import CallFaults, Jitter, Spell
from personaplex_bridge.simulator.plan import CallPlan
from personaplex_bridge.twilio import inbound
from tests.faults import models
from tests.faults.models import Models
from tests.faults.scene import Case, Told, call
from tests.live.harness import CALL_SID, COLD, STREAM_SID, Line, Peer, media, raw_model, raw_twilio
from tests.live.harness import stop as stop_message

CALL_S = 8.0
SHORT_MEDIA_TIMEOUT = dataclasses.replace(COLD, media_timeout_s=10.0)
SHORT_CALLS = dataclasses.replace(COLD, max_call_s=5.0)


@asynccontextmanager
async def good_server() -> AsyncIterator[list[str]]:
    """One that does as it should."""
    async with raw_model(Models(models.answers)) as url:
        yield [url]


def _phone(
    name: str, plan: CallPlan, settings: Settings = COLD, *, is_private: bool = True
) -> Case:
    """A call of the stand-in's."""

    async def act(line: Line) -> Told:
        return await call(line, plan)

    return Case("Twilio", name, act, good_server, settings, is_private)


def _peer(
    name: str,
    deed: Callable[[Peer], Awaitable[None]],
    settings: Settings = COLD,
    *,
    start: bool = True,
    answers_pings: bool = True,
) -> Case:
    """A media socket that does something of its own; nobody listens at its end."""

    async def act(line: Line) -> Told:
        async with raw_twilio(line, start=start, answers_pings=answers_pings) as peer:
            with contextlib.suppress(ConnectionError):  # the bridge may have had enough
                await deed(peer)
            code = await peer.close_code(50.0)
        closed = "nothing: the socket was cut" if code in (None, 1006) else f"closed with {code}"
        return Told(CALL_SID, "(nobody listens)", closed)

    return Case("Twilio", name, act, good_server, settings)


async def _nothing(_peer: Peer) -> None:
    pass


async def _stops_twice(peer: Peer) -> None:
    await peer.speak(50)
    await peer.send(stop_message())
    await peer.send(stop_message())


async def _closes_without_stop(peer: Peer) -> None:
    await peer.speak(50)
    await peer.socket.close()


async def _vanishes(peer: Peer) -> None:
    await peer.speak(50)
    peer.cut()


async def _falls_silent(peer: Peer) -> None:
    await peer.speak(50)


async def _starts_twice(peer: Peer) -> None:
    await peer.speak(50)
    again = inbound.Start(STREAM_SID, "CA" + "7" * 32, "AC" + "7" * 32)
    await peer.send(inbound.serialize(again))
    await peer.speak(50)
    await peer.send(stop_message())


async def _sends_out_of_order(peer: Peer) -> None:
    for number in (0, 2, 1, 3, 5, 4, 7, 6, 9, 8) * 5:
        await peer.send(media(number))
        await asyncio.sleep(0.02)
    await peer.send(stop_message())


async def _sends_media_of_another_stream(peer: Peer) -> None:
    for number in range(50):
        await peer.send(media(number).replace(STREAM_SID, "MZ" + "8" * 32))
        await asyncio.sleep(0.02)
    await peer.send(stop_message())


async def _sends_no_json(peer: Peer) -> None:
    for _ in range(200):
        await peer.send("{")


async def _sends_binary_frames(peer: Peer) -> None:
    await peer.speak(50)
    await peer.socket.send_bytes(b"\x00" * 160)
    await peer.speak(50)
    await peer.send(stop_message())


async def _sends_a_megabyte(peer: Peer) -> None:
    await peer.speak(50)
    await peer.send("x" * (1 << 20))


async def _sends_media_at_once(peer: Peer) -> None:
    await peer.burst(1000)


async def _sends_marks_at_once(peer: Peer) -> None:
    for number in range(3000):
        await peer.send(inbound.serialize(inbound.Mark(STREAM_SID, number, "m")))


async def _jumps_in_time(peer: Peer) -> None:
    """A timestamp a day ahead."""
    await peer.speak(50)
    await peer.send(media(50 * 86_400))
    await peer.speak(50)
    await peer.send(stop_message())


CASES = [
    _peer("opens its stream and never starts it", _nothing, start=False),
    _phone(
        "asks for TwiML and never opens the stream",
        CallPlan("", b"", faults=CallFaults(never_connects=True)),
    ),
    _phone("hangs up before the model is ready", CallPlan("", b"", hang_up_after_s=0.02)),
    _peer("stops twice", _stops_twice),
    _peer("starts twice", _starts_twice),
    _peer("closes without a stop", _closes_without_stop),
    _peer("vanishes: its connection is cut", _vanishes),
    _peer("is half-open: nothing comes, not even a pong", _falls_silent, answers_pings=False),
    _peer("falls silent without closing (MEDIA_TIMEOUT 10 s)", _falls_silent, SHORT_MEDIA_TIMEOUT),
    _peer("sends media out of order", _sends_out_of_order),
    _peer("sends media of another stream", _sends_media_of_another_stream),
    _peer("sends what is no JSON, 200 times", _sends_no_json),
    _peer("sends binary frames", _sends_binary_frames),
    _peer("sends a message of 1 MB", _sends_a_megabyte),
    _peer("sends 20 s of media at once", _sends_media_at_once),
    _peer("sends 3,000 marks at once", _sends_marks_at_once),
    _peer("sends a timestamp that is a day ahead", _jumps_in_time),
    _phone(
        "stops reading and writing for 2 s",
        CallPlan("", b"", hang_up_after_s=CALL_S, faults=CallFaults(block=(Spell(2.0, 2.0),))),
    ),
    _phone(
        "loses every tenth frame",
        CallPlan("", b"", hang_up_after_s=CALL_S, faults=CallFaults(lose=10)),
    ),
    _phone(
        "has jitter of up to 120 ms",
        CallPlan("", b"", hang_up_after_s=CALL_S, faults=CallFaults(jitter=Jitter(120))),
    ),
    _phone(
        "calls for longer than MAX_CALL (5 s)",
        CallPlan("", b"", hang_up_after_s=60.0),
        SHORT_CALLS,
        is_private=False,
    ),
]
