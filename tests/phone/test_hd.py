"""HD calls over real sockets: the same session, with linear samples at 24 kHz."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import aiohttp
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from personaplex_bridge.audio.files import write_wav
from personaplex_bridge.audio.format import HD, TELEPHONE
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.ringback import ringback
from personaplex_bridge.audio.tones import recovery_chime
from personaplex_bridge.config import Settings
from personaplex_bridge.record import CallRecord
from personaplex_bridge.recording.recorder import Recorder
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.simulator.talk import without_pauses
from personaplex_bridge.twilio import inbound
from personaplex_bridge.twilio.inbound import MediaFormat
from personaplex_bridge.web.access import BROWSER_PROTOCOL, HD_PROTOCOL
from tests.live.harness import (
    COLD,
    Line,
    Peer,
    bridge_to,
    full_line,
    raw_model,
    raw_twilio,
    speech,
    standin,
    until,
)
from tests.live.test_recovery import VOICE_HZ, Models
from tests.live.test_timing import ONSET_S, says_a_second_at_once
from tests.phone.scene import SIGNED, closing, refusal, site, socket_of, start
from tests.sound import band_db, find, wide_speech
from tests.virtual import in_virtual_time

ECHO = ModelOptions("echo", prompt_ms=200)
L16_24K = MediaFormat(HD.encoding, HD.rate_hz)
PATIENCE_S = 20.0
OPEN = dataclasses.replace(COLD, noise_gate="off", ringback=None)


@asynccontextmanager
async def phone_line(
    options: ModelOptions, settings: Settings = OPEN, recorder: Recorder | None = None
) -> AsyncIterator[tuple[Line, ModelServer]]:
    """A bridge with its phone, before the model's stand-in."""
    async with (
        standin(options) as (url, model),
        bridge_to(url, settings, recorder=recorder, has_phone=True) as line,
    ):
        yield line, model


def said(seconds: float) -> bytes:
    return HD.encode(np.concatenate([np.zeros(12_000, np.int16), wide_speech(seconds)]))


async def call(
    options: ModelOptions, plan: CallPlan, settings: Settings = OPEN
) -> tuple[PhoneReport, CallRecord]:
    async with phone_line(options, settings) as (line, _):
        report = await line.browser_call(plan)
        return report, await line.record()


def heard(report: PhoneReport) -> Pcm:
    return HD.decode(bytes(report.heard))


@in_virtual_time
async def test_what_is_said_above_the_telephones_band_comes_back() -> None:
    spoken = said(4)
    plan = CallPlan("", spoken, hang_up_after_s=6.0, audio_format=HD)
    report, record = await call(ECHO, plan)
    assert not report.problems
    assert not report.gaps
    assert not record.bad_messages
    assert record.caller_frames == report.frames_sent == 300
    assert record.persona == "assistant"
    source, back = HD.decode(spoken)[12_000:], heard(report)[12_000:]
    delay, correlation = find(source[::3], back[::3], most=8000)
    assert 0.05 < delay / 8000 < 0.5
    assert correlation > 0.85  # the stand-in's own encoder has 24 kbit/s or so
    back = back[3 * delay : 3 * delay + len(source)]
    for low_hz in (4000, 6000):
        before, after = (band_db(pcm, 24_000, low_hz, low_hz + 2000) for pcm in (source, back))
        assert after > before - 2, low_hz
    assert band_db(back, 24_000, 4000, 9000) > -9


@in_virtual_time
async def test_the_same_call_on_the_telephone_has_no_such_band() -> None:
    """The page may also be a telephone; then it is one."""
    async with phone_line(ECHO) as (line, _):
        plan = CallPlan("", TELEPHONE.encode(HD.decode(said(2))[::3]), hang_up_after_s=4.0)
        report = await line.browser_call(plan)
    assert not report.problems
    assert len(report.heard) == 4.0 * 8000


@in_virtual_time
async def test_who_waits_for_the_model_hears_it_ring() -> None:
    plan = CallPlan("", said(1), hang_up_after_s=4.0, audio_format=HD)
    settings = dataclasses.replace(OPEN, ringback="gb")
    report, _ = await call(ModelOptions("silence", prompt_ms=3000), plan, settings)
    ring = HD.decode(ringback("gb", HD))[:24_000]
    _, correlation = find(ring[::8], heard(report)[::8], most=3000)
    assert correlation > 0.99
    assert not report.problems


@in_virtual_time
async def test_who_loses_the_model_hears_the_chime_and_goes_on() -> None:
    plan = CallPlan("", b"", hang_up_after_s=6.0, audio_format=HD)
    async with raw_model(Models("dies")) as url, bridge_to(url, OPEN, has_phone=True) as line:
        report = await line.browser_call(plan)
        record = await line.record()
    assert len(record.failures) == 1
    assert bytes(report.heard).count(recovery_chime(HD)[0]) == 1
    last_second = heard(report)[-24_000:]
    assert band_db(last_second, 24_000, VOICE_HZ - 5, VOICE_HZ + 5) > -3
    assert not report.problems


@pytest.mark.parametrize("gate", ["off", "auto"])
@in_virtual_time
async def test_an_interruption_silences_the_model(gate: Literal["off", "auto"]) -> None:
    onset = HD.silence * HD.bytes_in(1000 * ONSET_S)
    spoken = HD.encode(np.repeat(TELEPHONE.decode(without_pauses(speech(), 0)[: 40 * 160]), 3))
    settings = dataclasses.replace(OPEN, noise_gate=gate)
    plan = CallPlan("", onset + spoken, hang_up_after_s=6.0, audio_format=HD)
    async with (
        raw_model(says_a_second_at_once) as url,
        bridge_to(url, settings, has_phone=True) as line,
    ):
        report = await line.browser_call(plan)
        record = await line.record()
    (interruption,) = record.barge_ins
    assert interruption.at_s == pytest.approx(ONSET_S, abs=0.1)
    assert record.cleared_frames > 20
    assert not any(HD.loudness(bytes(report.heard))[round(50 * (ONSET_S + 0.25)) : 250])
    assert not report.problems


@in_virtual_time
async def test_a_recording_in_hd_is_in_line_with_both_sides(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 30)
    spoken = said(6)
    async with recorder.running(), phone_line(ECHO, recorder=recorder) as (line, _):
        plan = CallPlan("", spoken, hang_up_after_s=7.5, audio_format=HD)
        report = await line.browser_call(plan)
        record = await line.record()
    assert record.recording is not None
    sound, rate_hz = soundfile.read(record.recording, dtype="float64")
    assert rate_hz == HD.rate_hz
    assert abs(len(sound) / HD.rate_hz - 7.5) < 0.05
    for side, track in enumerate((HD.decode(spoken), heard(report))):
        for begin_s in (1.0, 3.0, 5.0):
            offset_ms, correlation = _offset_ms(sound[:, side], track, begin_s)
            assert abs(offset_ms) < 20, (side, begin_s)
            assert correlation > 0.9
        assert band_db(sound[:, side], HD.rate_hz, 4000, 9000) > -9


def _offset_ms(
    recorded: npt.NDArray[np.float64], track: npt.NDArray[np.generic], begin_s: float
) -> tuple[float, float]:
    """How much later a second of a track stands in the recording, and how well it fits there."""
    begin, reach = int(begin_s * HD.rate_hz), HD.rate_hz // 20
    wanted = track[begin : begin + HD.rate_hz]
    late, correlation = find(wanted, recorded[begin - reach :][: HD.rate_hz + 2 * reach], 2 * reach)
    return (late - reach) * 1000 / HD.rate_hz, correlation


# Who may have it.


async def test_a_page_that_asks_for_it_is_told_how() -> None:
    async with site(SIGNED) as here:
        granted = await here.grant(sound="hd")
        assert granted["format"] == {"encoding": "audio/L16", "sampleRate": 24_000, "channels": 1}
        assert granted["protocols"][0] == HD_PROTOCOL
        async with socket_of(here, granted) as socket:
            assert socket.protocol == HD_PROTOCOL
        status, _, text = await here.ask("POST", "/phone/calls", {"sound": "stereo"})
        assert status == 422
        assert "telephone, hd" in json.loads(text)["detail"]


async def test_a_pass_for_the_telephone_opens_no_hd_socket_nor_the_other_way_round() -> None:
    async with site(SIGNED) as here:
        for sound, other in (("telephone", HD_PROTOCOL), ("hd", BROWSER_PROTOCOL)):
            granted = await here.grant(sound=sound)
            _, sid, token = granted["protocols"]
            assert (await refusal(here, granted, protocols=(other, sid, token)))[0] == 403
            await here.bridge.pool.leave(granted["call_sid"])


async def test_without_a_pass_nobody_gets_it() -> None:
    async with site(SIGNED) as here:
        granted = await here.grant(sound="hd")
        assert (await refusal(here, granted, protocols=(HD_PROTOCOL,)))[0] == 403
        wrong = (HD_PROTOCOL, granted["call_sid"], "once_" + "x" * 43)
        assert (await refusal(here, granted, protocols=wrong))[0] == 403


@pytest.mark.parametrize("sound", ["telephone", "hd"])
async def test_start_must_say_the_format_that_was_granted(sound: str) -> None:
    settings = dataclasses.replace(SIGNED, start_timeout_s=0.5)
    other = MediaFormat() if sound == "hd" else L16_24K
    async with site(settings) as here:
        granted = await here.grant(sound=sound)
        async with socket_of(here, granted) as socket:
            await socket.send_str(start(granted, media_format=other))
            assert await closing(socket) == 1002


@in_virtual_time
async def test_twilio_gets_no_hd(caplog: pytest.LogCaptureFixture) -> None:
    """A stream without a pass that asks for it is refused as any other format is."""
    settings = dataclasses.replace(OPEN, start_timeout_s=1.0)
    async with full_line(ECHO, settings) as (line, _), raw_twilio(line, start=False) as peer:
        begin = inbound.Start("MZ1", "CA1", "AC1", media_format=L16_24K)
        await peer.send(inbound.serialize(inbound.Connected()))
        await peer.send(inbound.serialize(begin))
        assert await peer.close_code() == 1002
        record = await line.record()
    assert record.bad_messages["bad-format"] == 1
    assert "must be audio/x-mulaw, 8000 Hz, channels: 1; got 'audio/L16, 24000 Hz" in caplog.text


# How much of it.


@asynccontextmanager
async def hd_socket(settings: Settings) -> AsyncIterator[tuple[HdPeer, CallRecord]]:
    """The media socket of an HD call in conversation, and the call's record."""
    async with site(settings) as here:
        granted = await here.grant(sound="hd")
        async with socket_of(here, granted) as socket:
            await socket.send_str(start(granted, media_format=L16_24K))
            record = await here.record()
            yield HdPeer(socket, granted["stream_sid"]), record


class HdPeer(Peer):
    """A page's end of a media socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, stream_sid: str) -> None:
        super().__init__(socket)
        self._stream_sid = stream_sid

    async def frame(self, payload: bytes) -> None:
        number = self._frames
        self._frames += 1
        event = inbound.Media(self._stream_sid, number + 2, number + 1, number * 20, payload)
        await self.send(inbound.serialize(event))


async def test_hd_in_real_time_passes_and_faster_does_not() -> None:
    async with hd_socket(SIGNED) as (peer, record):
        for _ in range(10):  # 2 s at once: of mu-law that many bytes would be 12 s
            await peer.frame(HD.silent_frame * 10)
        await asyncio.sleep(0.3)
        assert not peer.socket.closed
        for _ in range(150):
            await peer.frame(HD.silent_frame * 10)
        assert await peer.close_code(PATIENCE_S) == 1008
        assert record.ending is not None
        assert "faster than real time" in record.ending.reason


async def test_a_message_may_hold_as_much_time_as_on_the_telephone() -> None:
    async with hd_socket(SIGNED) as (peer, record):
        await peer.frame(HD.silent_frame * 200)  # 4 s: 256 KB of base64
        await asyncio.sleep(0.3)
        assert record.ending is None
        await peer.frame(HD.silent_frame * 310)
        assert await peer.close_code(PATIENCE_S) == 1009


async def test_a_part_of_a_sample_is_no_media() -> None:
    async with hd_socket(SIGNED) as (peer, record):
        await peer.frame(HD.silent_frame[1:])
        await peer.frame(HD.silent_frame)
        await asyncio.sleep(0.3)
        assert record.ending is None
        peer.cut()
        await until(lambda: record.ending is not None, PATIENCE_S)
    assert record.bad_messages == {"split-sample": 1}
    assert record.caller_frames == 1


# From the command line.


async def run_call(*arguments: str, **environ: str) -> tuple[int | None, str]:
    """`personaplex-bridge call`: its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "personaplex_bridge", "call", *arguments),
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, told.decode()


async def test_a_call_from_the_command_line(tmp_path: Path) -> None:
    spoken, heard_path = tmp_path / "said.wav", tmp_path / "heard.wav"
    write_wav(spoken, said(1), audio_format=HD)
    settings = dataclasses.replace(SIGNED, console_token="a-token-of-the-tests")
    async with site(settings, ECHO) as here:
        plan = (str(spoken), "--hd", "--url", f"{here.base}/?persona=noir", "--hang-up-after", "3")
        code, told = await run_call(*plan, CONSOLE_TOKEN="")
        assert (code, "answers 401" in told) == (1, True), told
        token = settings.console_token or ""
        code, told = await run_call(*plan, "--out", str(heard_path), CONSOLE_TOKEN=token)
    assert code == 0, told
    assert "sent 150 frames" in told
    sound = soundfile.info(heard_path)
    assert (sound.samplerate, sound.frames) == (24_000, 3 * 24_000)
