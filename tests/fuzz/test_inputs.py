"""How the bytes of an input are read."""

from hypothesis import given
from hypothesis import strategies as st

from fuzz.inputs import (
    SEPARATOR,
    Stream,
    join_frames,
    ogg_checksum,
    split_frames,
    with_right_checksums,
)
from personaplex_bridge.audio.ogg import OggReader
from tests.pages import crc32, page_of

PAGES = [page_of(b"head", flags=2).to_bytes(), page_of(b"x" * 300, b"", sequence=1).to_bytes()]
STREAM = b"".join(PAGES)


def spoilt(page: bytes) -> bytes:
    return page[:22] + bytes(4) + page[26:]


@given(st.lists(st.binary(max_size=20).filter(lambda frame: b"\x1e" not in frame), min_size=1))
def test_frames_round_trip(frames: list[bytes]) -> None:
    assert split_frames(join_frames(frames)) == frames


def test_frames_end_at_separators() -> None:
    assert split_frames(b"") == [b""]
    assert split_frames(b"a" + SEPARATOR + SEPARATOR + b"b\x1ec") == [b"a", b"", b"b\x1ec"]


@given(st.binary(max_size=50), st.lists(st.integers(0, 2**16 - 1), max_size=15), st.booleans())
def test_streams_round_trip(ogg: bytes, cuts: list[int], mended: bool) -> None:
    stream = Stream(ogg, tuple(cuts), mended)
    assert Stream.parse(stream.serialize()) == stream


@given(st.binary(max_size=60))
def test_any_bytes_are_a_stream_and_its_pieces_are_all_of_it(data: bytes) -> None:
    stream = Stream.parse(data)
    pieces = stream.pieces()
    assert len(pieces) == len(stream.cuts) + 1
    assert len(b"".join(pieces)) == len(stream.ogg)


@given(st.binary(max_size=100))
def test_checksum(data: bytes) -> None:
    assert ogg_checksum(data) == crc32(data).to_bytes(4, "little")


def test_whole_pages_are_mended_wherever_they_are() -> None:
    noise = b"noise"
    broken = noise.join([b"", *map(spoilt, PAGES), PAGES[0][:-1]])
    mended = with_right_checksums(broken)
    assert mended == noise.join([b"", *PAGES, PAGES[0][:-1]])
    assert with_right_checksums(mended) == mended


def test_what_is_no_page_is_left_alone() -> None:
    for data in (b"", b"OggS", b"OggS" * 20, STREAM[:30]):
        assert with_right_checksums(data) == data


def test_only_a_stream_that_asks_for_it_is_mended() -> None:
    broken = b"".join(map(spoilt, PAGES))
    read = {
        mended: OggReader().feed(b"".join(Stream(broken, (7,), mended).pieces()))
        for mended in (True, False)
    }
    assert [packet.data for packet in read[True]] == [b"head", b"x" * 300, b""]
    assert read[False] == []
