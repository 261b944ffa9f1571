"""What we make of others' Ogg Opus."""

from pathlib import Path

import numpy as np
import pytest
import soxr

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.downlink import DownlinkTranscoder, make_downlink
from tests.interop.peers import SPHN, run_opus_tool, sphn_encode
from tests.pages import read_pages
from tests.sound import find, speech_like

TRANSCODERS = pytest.mark.parametrize("transcoder", ["native", "soxr"])
SPEECH = speech_like(2, 24_000)


def heard(downlink: DownlinkTranscoder, messages: list[bytes]) -> bytes:
    return b"".join(map(downlink.feed, messages)) + downlink.flush()


@TRANSCODERS
@pytest.mark.parametrize(
    ("release", "header_rate_hz", "packet_ms"), [(SPHN[0], 24_000, 80), (SPHN[1], 48_000, 40)]
)
def test_the_servers_voice(
    release: str, transcoder: str, header_rate_hz: int, packet_ms: int
) -> None:
    messages = sphn_encode(release, SPEECH)
    downlink = make_downlink(transcoder)
    caller_hears = heard(downlink, messages)
    assert not downlink.damage
    assert downlink.packets == 2000 // packet_ms
    assert len(caller_hears) == 2 * 8000
    # 6.5 ms of lookahead, for which the server announces a pre-skip of 80 ms.
    upsampled = soxr.resample(mulaw.decode(caller_hears), 8000, 24_000)
    delay, correlation = find(SPEECH, upsampled, most=300)
    assert abs(delay - 6.5 * 24) <= 3
    assert correlation > 0.95

    head = read_pages(messages[0])[0]
    assert head.serial == 42
    assert head.body[10:16] == (3840).to_bytes(2, "little") + header_rate_hz.to_bytes(4, "little")


@pytest.mark.parametrize(("release", "step"), [(SPHN[0], 1920), (SPHN[1], 1920)])
def test_the_servers_pages_are_as_the_contract_says(release: str, step: int) -> None:
    """A granule step of 1,920 is 80 ms at 24 kHz in the older release, 40 ms at 48 kHz in the
    newer one.
    """
    pages = read_pages(b"".join(sphn_encode(release, SPEECH)))
    granules = [page.granule for page in pages[2:]]
    assert set(np.diff(granules)) == {step}
    assert {len(page.packets) for page in pages} == {1}
    assert pages[-1].flags == 0  # no end


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frame_ms", ["2.5", "5", "10", "20", "40", "60"])
def test_a_file_of_opusenc(tmp_path: Path, frame_ms: str, channels: int) -> None:
    """Several packets a page, and in stereo both channels mixed."""
    path = tmp_path / "opusenc.opus"
    pcm = np.repeat(SPEECH, channels)
    encoded = run_opus_tool(
        *("opusenc", "--quiet", "--raw", "--raw-rate", "24000", "--raw-chan", str(channels)),
        *("--framesize", frame_ms, "--bitrate", "96", "-", str(path)),
        given=pcm.tobytes(),
    )
    assert encoded.returncode == 0, encoded.stderr.decode()
    stream = path.read_bytes()
    downlink = make_downlink("native")
    caller_hears = heard(downlink, [stream])
    assert not downlink.damage

    pages = read_pages(stream)
    pre_skip = int.from_bytes(pages[0].body[10:12], "little") // 6
    # Pre-skip, end trimming and the last frame's padding stay in.
    longest = len(SPEECH) // 3 + pre_skip + 2 * 480 + 160
    assert len(SPEECH) // 3 + pre_skip <= len(caller_hears) <= longest
    delay, correlation = find(SPEECH[::3], mulaw.decode(caller_hears), most=320)
    assert abs(delay - pre_skip) <= 1
    assert correlation > 0.95
