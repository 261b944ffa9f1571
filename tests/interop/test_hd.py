"""HD calls and the model servers' own codec: what is above the telephone's band gets through."""

import pytest

from personaplex_bridge.audio.downlink import make_downlink
from personaplex_bridge.audio.format import HD
from personaplex_bridge.audio.uplink import make_uplink
from tests.interop.peers import SPHN, sphn_decode, sphn_encode
from tests.sound import band_db, find, wide_speech


@pytest.mark.parametrize("release", SPHN)
def test_what_the_servers_hear_of_hd(release: str) -> None:
    """Late by the encoder's 2.5 ms."""
    said = wide_speech(2)
    uplink = make_uplink("native", 4, HD)
    pages = [uplink.headers(), *uplink.feed(HD.encode(said)), uplink.flush()]
    heard = sphn_decode(release, pages)
    delay, correlation = find(said, heard, most=200)
    assert delay == 60
    assert correlation > 0.97
    for low_hz in (4000, 6000):
        before, after = (band_db(pcm, 24_000, low_hz, low_hz + 2000) for pcm in (said, heard))
        assert abs(before - after) < 1.0, low_hz


@pytest.mark.parametrize("transcoder", ["native", "soxr"])
@pytest.mark.parametrize("release", SPHN)
def test_what_hd_hears_of_the_servers(release: str, transcoder: str) -> None:
    """Late by the 6.5 ms of theirs; HD needs no resampler, whatever TRANSCODER says."""
    said = wide_speech(2)
    downlink = make_downlink(transcoder, HD)
    media = b"".join(map(downlink.feed, sphn_encode(release, said))) + downlink.flush()
    assert len(media) == 100 * HD.frame_bytes
    assert downlink.held_frames == 0
    heard = HD.decode(media)
    delay, correlation = find(said, heard, most=200)
    assert delay == round(6.5 * 24)
    assert correlation > 0.85  # of 24 kbit/s or so
    assert band_db(heard, 24_000, 4000, 9000) > band_db(said, 24_000, 4000, 9000) - 3
