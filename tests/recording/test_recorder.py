"""Recordings as files, read by others: libsndfile and opus-tools."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.format import FORMATS, AudioFormat
from personaplex_bridge.audio.ringback import waiting_sound
from personaplex_bridge.errors import ConfigError
from personaplex_bridge.recording.opusfile import OpusFile
from personaplex_bridge.recording.recorder import DAY_S, Recorder
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import bridge_to, speech, standin
from tests.virtual import in_virtual_time

LOG = logging.getLogger("personaplex_bridge.test")
CALL = "CA" + "4" * 32


def tracks(path: Path) -> np.ndarray:
    """At 8 kHz: samples, two."""
    sound, rate_hz = soundfile.read(path, dtype="float64")
    return np.stack([soxr.resample(sound[:, side], rate_hz, 8000, "VHQ") for side in (0, 1)], 1)


def offset_ms(recorded: np.ndarray, sound: np.ndarray, begin: int, reach: int = 800) -> float:
    """How much later a second of `sound` is in the recording."""
    wanted = sound[begin : begin + 8000]
    first = max(0, begin - reach)
    searched = recorded[first : begin + 8000 + reach]
    likeness = np.correlate(searched, wanted, "valid")
    return float(first + int(np.argmax(likeness)) - begin) / 8


async def caught_up(recorder: Recorder) -> None:
    """Its thread has done all that it was given."""
    await asyncio.get_running_loop().run_in_executor(recorder._thread, int)


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 8000, 8001, 80_123])
def test_to_the_sample(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "call.opus"
    left = (speech() * 2)[:samples]
    right = left[::-1]
    file = OpusFile(path)
    for begin in range(0, samples, 3000):
        file.write(left[begin : begin + 3000], right[begin : begin + 3000])
    file.close()
    assert path.stat().st_mode & 0o777 == 0o600
    if samples == 0:
        return
    sound = tracks(path)
    assert len(sound) == samples
    if samples > 16_000:
        for side, track in enumerate((left, right)):
            pcm = mulaw.decode(track).astype(float)
            assert offset_ms(sound[:, side], pcm, 0) == 0
            assert np.corrcoef(sound[:, side], pcm)[0, 1] > 0.95


@pytest.mark.skipif(shutil.which("opusdec") is None, reason="opus-tools isn't installed")
@pytest.mark.parametrize("audio_format", FORMATS.values(), ids=FORMATS)
def test_opus_tools_find_nothing_wrong(tmp_path: Path, audio_format: AudioFormat) -> None:
    """Not even where both sides are noise, which takes more bytes than libogg puts on a page."""
    path = tmp_path / "call.opus"
    file = OpusFile(path, audio_format)
    noise = np.random.default_rng(1).normal(0, 6000, 2 * audio_format.rate_hz).astype(np.int16)
    for loudness in (1.0, 0.01) * 6:
        left, right = np.split((noise * loudness).astype(np.int16), 2)
        file.write(audio_format.encode(left), audio_format.encode(right))
    file.close()
    assert soundfile.info(path).duration == 12.0
    told = subprocess.run(["opusinfo", path], capture_output=True, text=True, check=True)
    assert "Channels: 2" in told.stdout
    assert "Playback length: 0m:12.000s" in told.stdout
    assert "WARNING" not in told.stdout + told.stderr
    subprocess.run(["opusdec", "--quiet", path, tmp_path / "call.wav"], check=True)


async def record(recorder: Recorder, seconds: int) -> Path:
    recording = recorder.begin(CALL, LOG)
    for number in range(50 * seconds):
        frame = speech()[160 * number : 160 * number + 160]
        recording.tape.hear(20 * number, frame, 0.02 * number)
    recording.close(0.02 * 50 * seconds)
    return recording.path


async def test_a_recording_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a/folder", 30)
    async with recorder.running():
        path = await record(recorder, 5)
    assert [each for each in (tmp_path / "a").rglob("*") if each.is_file()] == [path]
    assert 5 * 8000 <= len(tracks(path)) <= 5 * 8000 + 160
    assert path.name.endswith(f"-{CALL}.opus")


async def test_a_strangers_call_sid_names_no_other_place(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 30)
    async with recorder.running():
        recording = recorder.begin("../../etc/passwd\0" * 20, LOG)
        recording.close(0.0)
    assert recording.path.parent.parent == tmp_path
    assert recording.path.exists()


async def test_a_full_disk_ends_the_recording_and_not_the_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, 30)
    async with recorder.running():
        recording = recorder.begin(CALL, LOG)
        await caught_up(recorder)
        assert recording._file is not None
        recording._file._file.close()
        recording._file._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115, ASYNC230
        for number in range(500):
            recording.tape.hear(20 * number, b"\x10" * 160, 0.02 * number)
            await asyncio.sleep(0)
        await caught_up(recorder)
        await asyncio.sleep(0.05)
        recording.close(10.0)
    told = [line for line in caplog.messages if "recorded no further" in line]
    assert told == ["the call is recorded no further: No space left on device"]


async def test_a_recording_that_is_deleted_meanwhile_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, 30)
    async with recorder.running():
        recording = recorder.begin(CALL, LOG)
        recording.tape.hear(0, speech()[:160], 0.0)
        await caught_up(recorder)
        recording._part.unlink()
        recording.close(1.0)
        await caught_up(recorder)
        await asyncio.sleep(0.05)
    assert caplog.messages == []
    assert not recording.path.exists()


async def test_a_folder_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="RECORDINGS_FOLDER"):
        async with Recorder(tmp_path / "file/folder", 30).running():
            pass


async def test_old_ones_are_deleted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 2)
    async with recorder.running():
        old, new = await record(recorder, 1), await record(recorder, 1)
    now_s = new.stat().st_mtime
    os.utime(old, (now_s - 3 * DAY_S,) * 2)
    keepsake = tmp_path / "notes.txt"
    keepsake.write_text("not a recording")
    os.utime(keepsake, (0, 0))
    assert recorder.sweep(now_s) == 1
    assert not old.exists()
    assert new.exists()
    assert keepsake.exists()


@in_virtual_time
async def test_a_recording_is_in_line_with_both_sides(tmp_path: Path) -> None:
    """Over real sockets: off by less than 20 ms from the beginning to the end. (On a busy machine
    the phone's sound would be held up, and be later than the recording knows.)
    """
    recorder, said = Recorder(tmp_path, 30), speech() * 2
    sound = waiting_sound("us")
    async with (
        recorder.running(),
        standin(ModelOptions("repeat", prompt_ms=500)) as (url, _),
        bridge_to(url, waiting_sound=sound, recorder=recorder) as line,
    ):
        report = await line.call(CallPlan("", said))
        record = await line.record()
    assert record.recording is not None
    recorded = tracks(record.recording)
    for side, track in enumerate((said, bytes(report.heard))):
        pcm = mulaw.decode(track).astype(float)
        loud = [
            begin
            for begin in range(0, len(pcm) - 8000, 8000)
            if np.sqrt(np.mean(pcm[begin : begin + 8000] ** 2)) > 1000
        ]
        assert len(loud) >= 15
        offsets = [offset_ms(recorded[:, side], pcm, begin) for begin in loud]
        assert max(map(abs, offsets)) < 20, (side, offsets)
