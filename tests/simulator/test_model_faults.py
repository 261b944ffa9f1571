"""What goes wrong at the model's stand-in, over real sockets and in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect

from personaplex_bridge.audio.downlink import make_downlink
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.clock import LoopClock
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.faults import Jitter, ModelFaults, Slow, Spell
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import standin
from tests.virtual import run_cleanly

ROLE = {"voice_prompt": "NATF2.pt", "text_prompt": "You enjoy having a good conversation."}
FRAME_S, STEP_S = 0.08, 0.04
FIRST_S = 0.01
"""When the first frame is sent: off the even numbers, so that it is clear what a spell holds."""


@dataclass
class Talk:
    """A conversation of so many frames. Times are seconds since the handshake."""

    session: ModelSession
    headers: list[bytes] = field(default_factory=list)
    pages: list[tuple[float, bytes]] = field(default_factory=list)
    """Audio pages, after the two headers."""
    heard_at: list[float] = field(default_factory=list)

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.pages]


async def _talk(faults: ModelFaults, frames: int) -> Talk:
    clock, uplink = LoopClock(), make_uplink("native")
    options = ModelOptions("tone", prompt_ms=0, step_ms=int(STEP_S * 1000), faults=faults)
    async with (
        standin(options, clock) as (url, model),
        connect(
            f"{url}?{urlencode(ROLE)}", compression=None, ping_interval=None, proxy=None
        ) as socket,
    ):
        assert await socket.recv() == b"\x00"
        began = clock.now()
        talk = Talk(model.sessions[0])
        listening = asyncio.create_task(_listen(socket, talk, began))
        await socket.send(b"\x01" + uplink.headers())
        for number in range(frames):
            await clock.sleep_until(began + FIRST_S + number * FRAME_S)
            await socket.send(b"\x01" + uplink.feed(b"\xff" * 640)[0])
        await clock.sleep_until(clock.now() + 30.0)
        listening.cancel()
        talk.heard_at = [round(at - began, 6) for at in talk.session.heard_at]
    return talk


async def _listen(socket: ClientConnection, talk: Talk, began: float) -> None:
    while True:
        message = await socket.recv()
        assert isinstance(message, bytes)
        if len(talk.headers) < 2:
            talk.headers.append(message[1:])
        else:
            talk.pages.append((round(LoopClock().now() - began, 6), message[1:]))


def talk(faults: ModelFaults, frames: int = 50) -> Talk:
    return run_cleanly(_talk(faults, frames))


def sent(number: int) -> float:
    """When the `number`th frame is sent, from 0."""
    return FIRST_S + number * FRAME_S


def in_time(begin: int, end: int) -> list[float]:
    """When a calm model answers these frames."""
    return [round(sent(number) + STEP_S, 6) for number in range(begin, end)]


def test_nothing_goes_wrong_by_default() -> None:
    calm = talk(ModelFaults())
    assert calm.times == in_time(0, 50)
    assert calm.heard_at == [round(sent(number), 6) for number in range(50)]
    assert (calm.session.lost, calm.session.corrupted) == (0, 0)


def test_after_a_pause_the_model_catches_up_at_its_step_time() -> None:
    paused = talk(ModelFaults(pause=(Spell(1.0, 0.8),)))
    # Frames 0 to 12 came before 1.0; the next ten were heard in time and answered from 1.8 on.
    assert paused.heard_at == [round(sent(number), 6) for number in range(50)]
    assert paused.times[:13] == in_time(0, 13)
    assert paused.times[13:32] == [round(1.8 + STEP_S * count, 6) for count in range(1, 20)]
    assert paused.times[32:] == in_time(32, 50)


def test_a_blocked_socket_is_neither_read_nor_written() -> None:
    blocked = talk(ModelFaults(block=(Spell(1.0, 0.8),)))
    # Frame 12, heard at 0.97, is answered at 1.01: that waits. Frames 13 to 22 come at 1.8.
    assert blocked.heard_at[13:23] == [1.8] * 10
    assert blocked.times[:12] == in_time(0, 12)
    assert blocked.times[12:32] == [round(1.8 + STEP_S * n, 6) for n in range(20)]
    assert blocked.times[32:] == in_time(32, 50)


def test_a_slow_spell() -> None:
    slow = talk(ModelFaults(slow=(Slow(0.8, Spell(0.0, 2.0)),)))
    # From 0.01 on a step takes 100 ms; the last that begins before 2.0 is the twentieth.
    assert slow.times[:20] == [round(FIRST_S + 0.1 * n, 6) for n in range(1, 21)]
    assert slow.times[20] == round(slow.times[19] + STEP_S, 6)
    assert slow.times[-10:] == in_time(40, 50)


def test_jitter_delays_and_keeps_the_order() -> None:
    faults = ModelFaults(jitter=Jitter(120.0, seed=7))
    shaken = talk(faults)
    late = [there - here for here, there in zip(in_time(0, 50), shaken.times, strict=True)]
    assert all(0 <= delay <= 0.120001 for delay in late)
    assert max(late) > 0.1
    assert shaken.times == sorted(shaken.times)
    assert talk(faults).pages == shaken.pages, "the same seed, the same delays"
    assert talk(ModelFaults(jitter=Jitter(120.0, seed=8))).times != shaken.times


def test_jitter_in_a_spell_only() -> None:
    shaken = talk(ModelFaults(jitter=Jitter(50.0, Spell(1.0, 0.8))))
    assert shaken.times[:12] == in_time(0, 12)
    assert shaken.times[12:22] != in_time(12, 22)
    assert shaken.times[22:] == in_time(22, 50)


@pytest.mark.parametrize("drift_ppm", [500.0, 50_000.0])
def test_input_waits_longer_and_longer_for_a_model_with_a_slow_clock(drift_ppm: float) -> None:
    drifting = talk(ModelFaults(drift_ppm=drift_ppm), frames=100)
    period_s = FRAME_S * (1 + drift_ppm / 1e6)
    first = in_time(0, 1)[0]
    assert drifting.times == pytest.approx([first + n * period_s for n in range(100)], abs=2e-6)


def test_a_model_with_a_fast_clock_waits_for_its_input() -> None:
    assert talk(ModelFaults(drift_ppm=-50_000.0)).times == in_time(0, 50)


def page_numbers(pages: list[tuple[float, bytes]]) -> list[int]:
    """Each page's sequence number (RFC 3533, section 6, field 6)."""
    return [int.from_bytes(page[18:22], "little") for _, page in pages]


def test_lost_pages_leave_a_hole_in_the_numbers() -> None:
    lossy = talk(ModelFaults(lose=10))
    lost = {9, 19, 29, 39, 49}
    assert lossy.times == [at for n, at in enumerate(in_time(0, 50)) if n not in lost]
    # The headers have numbers 0 and 1.
    assert page_numbers(lossy.pages) == [n + 2 for n in range(50) if n not in lost]
    assert (lossy.session.frames_out, lossy.session.lost) == (50, 5)


def test_corrupt_packets_come_in_whole_pages() -> None:
    corrupt = talk(ModelFaults(corrupt=10))
    downlink = make_downlink("native")
    for header in corrupt.headers:
        assert downlink.feed(header) == b""
    for _, page in corrupt.pages:
        assert len(downlink.feed(page)) == 640, "each page gives its 80 ms"
    assert downlink.damage == {"corrupt-packet": 5}
    assert corrupt.session.corrupted == 5
    assert page_numbers(corrupt.pages) == list(range(2, 52))


def test_faults_come_together() -> None:
    faults = ModelFaults(
        pause=(Spell(0.5, 0.2),), block=(Spell(1.0, 0.4),), jitter=Jitter(30.0), lose=7, corrupt=5
    )
    both = talk(faults)
    assert len(both.pages) == 50 - 50 // 7
    assert both.times == sorted(both.times)
    assert not [at for at in both.times if 1.0 <= at < 1.4]
    assert talk(faults).pages == both.pages
