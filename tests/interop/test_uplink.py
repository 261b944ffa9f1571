"""What others make of the Ogg Opus that we send to the model."""

from pathlib import Path

import numpy as np
import pytest

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.uplink import make_uplink
from tests.interop.peers import SPHN, run_opus_tool, sphn_decode
from tests.sound import find, speech_like

TRANSCODERS = pytest.mark.parametrize("transcoder", ["native", "soxr"])
PAGES = pytest.mark.parametrize("packets_per_page", [1, 2, 4])
LOOKAHEAD = 60
"""2.5 ms at 24 kHz, which is also the pre-skip we announce."""


def messages_of(caller: bytes, transcoder: str, packets_per_page: int) -> list[bytes]:
    uplink = make_uplink(transcoder, packets_per_page)
    return [uplink.headers(), *uplink.feed(caller), uplink.flush()]


@TRANSCODERS
@PAGES
@pytest.mark.parametrize("samples", [0, 1, 12_345, 16_000])
def test_opus_tools(tmp_path: Path, transcoder: str, packets_per_page: int, samples: int) -> None:
    caller = mulaw.encode(speech_like(2, 8000)[:samples])
    path = tmp_path / "uplink.opus"
    path.write_bytes(b"".join(messages_of(caller, transcoder, packets_per_page)))

    info = run_opus_tool("opusinfo", str(path))
    said = (info.stdout + info.stderr).decode()
    assert info.returncode == 0, said
    assert "WARNING" not in said
    assert "ERROR" not in said
    assert "Pre-skip: 120" in said
    assert "Original sample rate: 8000 Hz" in said

    # Raw 16-bit samples at 48 kHz, where Ogg Opus counts: exactly six for each of ours.
    decoded = run_opus_tool("opusdec", "--quiet", "--rate", "48000", "--no-dither", str(path), "-")
    assert decoded.returncode == 0, decoded.stderr.decode()
    assert len(decoded.stdout) == 2 * 6 * samples


@TRANSCODERS
def test_opusdec_hears_the_caller_without_delay(tmp_path: Path, transcoder: str) -> None:
    """It leaves the pre-skip out, as RFC 7845 asks."""
    caller = mulaw.encode(speech_like(2, 8000))
    path = tmp_path / "uplink.opus"
    path.write_bytes(b"".join(messages_of(caller, transcoder, 4)))
    decoded = run_opus_tool("opusdec", "--quiet", "--rate", "48000", "--no-dither", str(path), "-")
    heard = np.frombuffer(decoded.stdout, np.int16)[::6]
    delay, correlation = find(mulaw.decode(caller), heard, most=160)
    assert delay <= 1
    assert correlation > 0.98


@TRANSCODERS
@PAGES
@pytest.mark.parametrize("release", SPHN)
def test_the_servers_hear_every_packet(
    release: str, transcoder: str, packets_per_page: int
) -> None:
    """Both releases of sphn ignore pre-skip and end of stream: they give whole packets, which
    lag by the encoder's lookahead.
    """
    caller = mulaw.encode(speech_like(2, 8000))
    heard = sphn_decode(release, messages_of(caller, transcoder, packets_per_page))
    # 2 s are 100 packets of 20 ms; the lookahead needs another.
    assert len(heard) == 101 * 480
    delay, correlation = find(mulaw.decode(caller), heard[::3], most=160)
    assert abs(3 * delay - LOOKAHEAD) <= 3
    assert correlation > 0.98


@pytest.mark.parametrize("release", SPHN)
def test_the_servers_hear_a_live_stream(release: str) -> None:
    """Without an end, in messages that split pages."""
    caller = mulaw.encode(speech_like(2, 8000))
    stream = b"".join(messages_of(caller, "native", 4)[:-1])
    parts = [stream[at : at + 101] for at in range(0, len(stream), 101)]
    assert len(sphn_decode(release, parts)) == 100 * 480
