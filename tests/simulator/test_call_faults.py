"""What goes wrong at Twilio's stand-in, and what the caller hears, in virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from personaplex_bridge.clock import LoopClock
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults, Jitter, Spell
from personaplex_bridge.simulator.report import Cleared, Gap, PhoneReport
from personaplex_bridge.twilio import inbound, outbound, twiml
from personaplex_bridge.twilio.inbound import Dtmf, Inbound, Mark, Media, Stop
from personaplex_bridge.web.hosting import hosted
from tests.virtual import run_cleanly

HOST = "127.0.0.1"
LOUD, QUIET = b"\x10" * 160, b"\xff" * 160
FRAMES = 100
PLAN = CallPlan("", LOUD * FRAMES, hang_up_after_s=FRAMES * 0.02)


@dataclass
class Bridge:
    """What a bridge of a few lines got. Times are seconds since the stream's start."""

    events: list[tuple[float, Inbound]] = field(default_factory=list)
    opened_s: float | None = None
    """When the media socket was opened, in seconds since the webhook."""
    report: PhoneReport = field(default_factory=lambda: PhoneReport(""))

    def of(self, kind: type[Inbound]) -> list[tuple[float, Inbound]]:
        return [(at, event) for at, event in self.events if isinstance(event, kind)]

    @property
    def media(self) -> list[tuple[float, Media]]:
        return [(at, event) for at, event in self.events if isinstance(event, Media)]

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.media]


class Sender:
    """What the bridge of a few lines says, at moments since the stream's start."""

    def __init__(self, socket: web.WebSocketResponse, sid: str) -> None:
        self._socket, self._sid = socket, sid
        self._began = LoopClock().now()

    async def at(self, moment_s: float) -> None:
        await LoopClock().sleep_until(self._began + moment_s)

    async def play(self, *frames: bytes) -> None:
        await self._send(outbound.PlayMedia(self._sid, b"".join(frames)))

    async def mark(self, name: str) -> None:
        await self._send(outbound.SendMark(self._sid, name))

    async def clear(self) -> None:
        await self._send(outbound.Clear(self._sid))

    async def _send(self, command: outbound.Outbound) -> None:
        await self._socket.send_str(outbound.serialize(command))


Script = Callable[[Sender], Awaitable[None]]


async def _say_nothing(_sender: Sender) -> None:
    pass


async def _call(plan: CallPlan, script: Script) -> Bridge:
    bridge, clock = Bridge(), LoopClock()

    async def answer(request: web.Request) -> web.Response:
        bridge.opened_s = -clock.now()
        document = twiml.connect_stream(f"ws://{request.host}/stream", {})
        return web.Response(text=document, content_type="text/xml")

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert bridge.opened_s is not None
        bridge.opened_s = round(bridge.opened_s + clock.now(), 6)
        began, talking = 0.0, asyncio.create_task(asyncio.sleep(0))
        async for message in socket:
            event = inbound.parse(message.data)
            if isinstance(event, inbound.Start):
                began = clock.now()
                sender = Sender(socket, event.stream_sid)
                talking = asyncio.ensure_future(_run(script, sender))
            bridge.events.append((round(clock.now() - began, 6), event))
        if talking.done():
            talking.result()
        talking.cancel()
        return socket

    app = web.Application()
    app.router.add_post("/", answer)
    app.router.add_get("/stream", stream)
    async with hosted(app, HOST, 0) as port:
        plan = dataclasses.replace(plan, webhook_url=f"http://{HOST}:{port}/")
        bridge.report = await PhoneCall(plan, clock).run()
    return bridge


async def _run(script: Script, sender: Sender) -> None:
    await script(sender)


def call(
    faults: CallFaults | None = None, script: Script = _say_nothing, plan: CallPlan = PLAN
) -> Bridge:
    plan = dataclasses.replace(plan, faults=faults or CallFaults())
    return run_cleanly(_call(plan, script))


def spoken(begin: int, end: int) -> list[float]:
    return [round(number * 0.02, 6) for number in range(begin, end)]


def chunks(bridge: Bridge) -> list[int]:
    """Frame numbers, from 0."""
    assert all(event.timestamp_ms == (event.chunk - 1) * 20 for _, event in bridge.media)
    return [event.chunk - 1 for _, event in bridge.media]


def numbers_have_no_hole(bridge: Bridge) -> bool:
    numbers = [event.sequence_number for _, event in bridge.events[1:]]  # type: ignore[union-attr]  # all but the first have one
    return numbers == list(range(1, len(numbers) + 1))


def test_nothing_goes_wrong_by_default() -> None:
    calm = call()
    assert calm.times == spoken(0, FRAMES)
    assert chunks(calm) == list(range(FRAMES))
    assert numbers_have_no_hole(calm)
    assert calm.opened_s == 0.0


def test_a_blocked_socket_holds_frames_back_and_sends_them_in_one_burst() -> None:
    blocked = call(CallFaults(block=(Spell(0.51, 0.5),)))
    assert blocked.times == [*spoken(0, 26), *[1.01] * 25, *spoken(51, FRAMES)]
    assert chunks(blocked) == list(range(FRAMES)), "with their true timestamps"
    assert numbers_have_no_hole(blocked)


def test_a_blocked_socket_plays_what_is_there_and_the_rest_afterwards() -> None:
    async def script(sender: Sender) -> None:
        await sender.play(*[LOUD] * 5)
        await sender.mark("heard")
        await sender.at(0.2)
        await sender.play(*[LOUD] * 5)

    blocked = call(CallFaults(block=(Spell(0.05, 0.5),)), script)
    # Five frames come at 0, after the frame of 0 was heard; the other five at 0.55.
    heard = QUIET + LOUD * 5 + QUIET * 22 + LOUD * 5 + QUIET * 7
    assert bytes(blocked.report.heard[: 40 * 160]) == heard
    assert blocked.report.gaps == [Gap(0.12, 440.0), Gap(0.66, 1340.0)]
    assert blocked.report.media_at[1] - blocked.report.media_at[0] == pytest.approx(0.55)
    assert blocked.of(Mark)[0][0] == 0.55, "the mark was reached at 0.10, and told afterwards"


def test_a_call_that_ends_in_a_block_ends_after_it() -> None:
    blocked = call(CallFaults(block=(Spell(1.9, 1.0),)))
    assert len(blocked.media) == FRAMES
    assert blocked.of(Stop)[0][0] == 2.9
    assert blocked.report.outcome == "the caller hung up"


def test_frames_of_a_spell_are_lost_for_good() -> None:
    lossy = call(CallFaults(lose_frames=(Spell(0.5, 0.1),)))
    assert chunks(lossy) == [*range(25), *range(30, FRAMES)]
    assert lossy.times == [*spoken(0, 25), *spoken(30, FRAMES)]
    assert numbers_have_no_hole(lossy)
    assert lossy.report.frames_sent == FRAMES - 5


def test_every_nth_frame_is_lost_or_comes_twice() -> None:
    lossy = call(CallFaults(lose=10))
    assert chunks(lossy) == [number for number in range(FRAMES) if number % 10 != 9]
    double = call(CallFaults(double=10))
    assert chunks(double) == sorted([*range(FRAMES), *range(9, FRAMES, 10)])
    assert numbers_have_no_hole(double)
    assert double.report.frames_sent == FRAMES + 10


def test_jitter_delays_frames_and_keeps_their_order() -> None:
    shaken = call(CallFaults(jitter=Jitter(120.0, seed=3)))
    assert chunks(shaken) == list(range(FRAMES))
    late = [at - due for at, due in zip(shaken.times, spoken(0, FRAMES), strict=True)]
    assert min(late) >= 0.0
    assert 0.1 < max(late) <= 0.120001
    assert call(CallFaults(jitter=Jitter(120.0, seed=3))).times == shaken.times
    assert call(CallFaults(jitter=Jitter(120.0, seed=4))).times != shaken.times


@pytest.mark.parametrize("drift_ppm", [50.0, -50_000.0, 50_000.0])
def test_a_phone_with_a_clock_of_its_own(drift_ppm: float) -> None:
    drifting = call(CallFaults(drift_ppm=drift_ppm))
    frame_s = 0.02 / (1 + drift_ppm / 1e6)
    assert drifting.times == pytest.approx([n * frame_s for n in range(FRAMES)], abs=2e-6)
    assert chunks(drifting) == list(range(FRAMES)), "timestamps are the phone's own"


def test_twilio_takes_its_time_to_open_the_media_socket() -> None:
    late = call(CallFaults(answer_after_s=0.4))
    assert late.opened_s == 0.4
    assert late.times == spoken(0, FRAMES)


def test_a_webhook_without_a_stream() -> None:
    never = call(CallFaults(never_connects=True))
    assert never.events == []
    assert never.report.outcome == "the media socket was never opened"


def test_keys_are_pressed_in_the_phones_time() -> None:
    plan = dataclasses.replace(PLAN, keys=((0.5, "1"),))
    pressed = call(CallFaults(drift_ppm=50_000.0), plan=plan).of(Dtmf)
    assert [at for at, _ in pressed] == pytest.approx([0.5 / 1.05], abs=1e-6)


async def _play(sender: Sender, *frames_at: tuple[float, list[bytes]]) -> None:
    for moment_s, frames in frames_at:
        await sender.at(moment_s)
        await sender.play(*frames)


def test_a_gap_is_audible_after_sound_only() -> None:
    async def script(sender: Sender) -> None:
        await _play(
            sender,
            (0.09, [LOUD] * 5),  # heard from 0.10, out of media at 0.20
            (0.25, [LOUD] * 5 + [QUIET]),  # heard from 0.26, out at 0.38, after silence
            (0.49, [LOUD, LOUD]),  # heard from 0.50, out at 0.54 until the end
        )

    report = call(script=script, plan=dataclasses.replace(PLAN, hang_up_after_s=1.0)).report
    assert report.gaps == [Gap(0.2, 60.0), Gap(0.54, 460.0)]
    # The first frame that misses media after there was any: 10, 19, 27.
    assert report.underruns == 3
    there = {*range(5, 10), *range(13, 19), *range(25, 27)}
    assert list(report.missing) == [number not in there for number in range(50)]


def test_a_gap_begins_within_a_frame() -> None:
    async def script(sender: Sender) -> None:
        await _play(sender, (0.01, [LOUD, LOUD[:80]]), (0.07, [LOUD]))

    report = call(script=script, plan=dataclasses.replace(PLAN, hang_up_after_s=0.1)).report
    assert report.gaps == [Gap(0.05, 30.0)]


def test_sound_that_is_cleared_is_no_gap() -> None:
    async def script(sender: Sender) -> None:
        await sender.play(*[LOUD] * 20)
        await sender.mark("end")
        await sender.at(0.11)
        await sender.clear()
        await sender.at(0.31)
        await sender.clear()

    cleared = call(script=script)
    report = cleared.report
    assert report.gaps == []
    # Five frames were heard by 0.11, from 0.02 to 0.10.
    assert [(round(at, 6), size) for at, size in report.clears] == [(0.11, 15 * 160), (0.31, 0)]
    assert isinstance(report.clears[0], Cleared)
    assert report.cleared_bytes == 15 * 160
    assert [at for at, _ in cleared.of(Mark)] == [0.11]
