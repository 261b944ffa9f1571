"""Ogg pages, checked against a parser of our own (tests/pages.py)."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.ogg import OggReader, OggWriter, Packet
from tests.pages import (
    CONTINUED,
    FIRST,
    LAST,
    NO_PACKET_ENDS,
    Page,
    crc32,
    packets_of,
    page_of,
    read_pages,
)
from tests.splits import split_at

SIZES = [0, 1, 254, 255, 256, 510, 70_000]

MAX_PAGE_BYTES = 27 + 255 + 255 * 255
"""Header, lacing table and body at their longest (RFC 3533, section 6)."""


def data(size: int, seed: int = 1) -> bytes:
    return bytes((7 * number + seed) % 256 for number in range(size))


def read(stream: bytes) -> tuple[list[bytes], dict[str, int]]:
    reader = OggReader()
    return [packet.data for packet in reader.feed(stream)], dict(reader.damage)


def three_pages(serial: int = 1) -> list[bytes]:
    pages = [
        page_of(b"head", flags=FIRST, serial=serial),
        page_of(b"one", b"two", sequence=1, serial=serial),
        page_of(b"three", sequence=2, serial=serial),
    ]
    return [page.to_bytes() for page in pages]


def test_our_own_parser_reads_a_known_page() -> None:
    """RFC 3533's CRC has the check value 0x89A1897F for "123456789"."""
    assert crc32(b"123456789") == 0x89A1897F
    page = page_of(data(300), b"", flags=FIRST, granule=5, serial=9)
    assert page.lacing == b"\xff\x2d\x00"
    assert read_pages(page.to_bytes()) == [page]


# Writing


def test_pages_are_valid() -> None:
    writer = OggWriter(0x7FFFFFFE)
    stream = writer.page([b"head"], 0)
    stream += writer.page([b"a" * 10, b"", b"b" * 300], 1920)
    stream += writer.page([b"c"], 2**40)
    stream += writer.page([b"d", b"e"], 2**40 + 1, last=True)
    pages = read_pages(stream)
    assert [page.flags for page in pages] == [FIRST, 0, 0, LAST]
    assert [page.sequence for page in pages] == [0, 1, 2, 3]
    assert [page.granule for page in pages] == [0, 1920, 2**40, 2**40 + 1]
    assert {page.serial for page in pages} == {0x7FFFFFFE}
    assert [list(page.lacing) for page in pages] == [[4], [10, 0, 255, 45], [1], [1, 1]]
    assert [page.packets for page in pages[1:3]] == [[b"a" * 10, b"", b"b" * 300], [b"c"]]


def test_a_packet_longer_than_a_page_goes_on_on_the_next() -> None:
    writer = OggWriter(1)
    first, second, third = read_pages(writer.page([b"head"], 0) + writer.page([data(70_000)], 960))
    assert (first.flags, second.flags, third.flags) == (FIRST, 0, CONTINUED)
    assert (second.granule, third.granule) == (NO_PACKET_ENDS, 960)
    assert len(second.body) == 255 * 255
    assert packets_of([second, third]) == [data(70_000)]
    assert max(len(page.to_bytes()) for page in (second, third)) <= MAX_PAGE_BYTES


@pytest.mark.parametrize("size", SIZES)
def test_packets_of_any_size_round_trip(size: int) -> None:
    writer = OggWriter(1)
    packets = [b"head", data(size), data(size, seed=2), b"end"]
    stream = b"".join(writer.page([packet], 0) for packet in packets)
    assert packets_of(read_pages(stream)) == packets
    assert read(stream) == (packets, {})


@given(st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=6), max_size=6))
def test_what_is_written_is_read(pages: list[list[bytes]]) -> None:
    writer = OggWriter(7)
    stream = writer.page([b"head"], 0) + b"".join(writer.page(packets, 0) for packets in pages)
    packets = [b"head", *(packet for page in pages for packet in page)]
    assert packets_of(read_pages(stream)) == packets
    assert read(stream) == (packets, {})


# Reading


@given(st.lists(st.integers(0, 70_700), max_size=40))
def test_any_split_gives_the_same_packets(cuts: list[int]) -> None:
    writer = OggWriter(1)
    pages = [[b"head"], [data(300), b"", data(255)], [data(70_000)], [b"end"]]
    stream = b"".join(writer.page(packets, 0) for packets in pages)
    reader = OggReader()
    parts = split_at(stream, cuts)
    read_in_parts = [packet for part in parts for packet in reader.feed(part)]
    whole = OggReader().feed(stream)
    assert read_in_parts == whole
    assert [packet.data for packet in whole] == [packet for page in pages for packet in page]
    assert not reader.damage


def test_byte_by_byte_a_packet_comes_with_the_last_byte_of_its_page() -> None:
    reader = OggReader()
    (page, *_) = three_pages()
    assert [reader.feed(page[at : at + 1]) for at in range(len(page) - 1)] == [[]] * (len(page) - 1)
    assert reader.feed(page[-1:]) == [Packet(b"head", True)]


def test_only_the_first_packet_is_first() -> None:
    packets = OggReader().feed(b"".join(three_pages()))
    assert [packet.first for packet in packets] == [True, False, False, False]


@pytest.mark.parametrize(
    "at", [5, 14, 22, 27, -1], ids=["flags", "serial", "CRC", "lacing", "body"]
)
def test_a_page_with_a_wrong_crc_is_skipped_and_the_next_is_read(at: int) -> None:
    one, two, three = three_pages()
    broken = bytearray(two)
    broken[at] ^= 0x01
    packets, damage = read(one + broken + three)
    assert packets == [b"head", b"three"]
    assert damage == {"skipped-bytes": len(two), "hole": 1}


def test_a_truncated_stream_gives_what_is_whole() -> None:
    one, two, three = three_pages()
    assert read(one + two + three[:-1]) == ([b"head", b"one", b"two"], {})


def test_a_page_cut_short_costs_only_itself() -> None:
    one, two, three = three_pages()
    packets, damage = read(one + two[:-1] + three)
    assert packets == [b"head", b"three"]
    assert damage == {"skipped-bytes": len(two) - 1, "hole": 1}


@pytest.mark.parametrize("garbage", [b"x", b"Ogg", bytes(1000), b"OggS\x01" + bytes(50)])
def test_garbage_between_pages_is_skipped(garbage: bytes) -> None:
    one, two, three = three_pages()
    packets, damage = read(garbage + one + garbage + two + garbage + three)
    assert packets == [b"head", b"one", b"two", b"three"]
    assert damage == {"skipped-bytes": 3 * len(garbage)}


def test_a_foreign_page_is_skipped() -> None:
    one, two, three = three_pages()
    foreign = page_of(b"foreign", serial=2, sequence=1).to_bytes()
    packets, damage = read(one + foreign + two + foreign + three)
    assert packets == [b"head", b"one", b"two", b"three"]
    assert damage == {"foreign-page": 2}


@pytest.mark.parametrize("flags", [0, CONTINUED])
def test_a_foreign_page_within_a_packet_leaves_it_alone(flags: int) -> None:
    writer = OggWriter(1)
    head, long = writer.page([b"head"], 0), writer.page([data(70_000)], 960)
    middle = len(read_pages(long)[0].to_bytes())
    foreign = page_of(b"foreign", serial=2, sequence=1, flags=flags).to_bytes()
    packets, damage = read(head + long[:middle] + foreign + long[middle:])
    assert packets == [b"head", data(70_000)]
    assert damage == {"foreign-page": 1}


def test_a_missing_page_is_a_hole() -> None:
    one, _, three = three_pages()
    assert read(one + three) == ([b"head", b"three"], {"hole": 1})


@pytest.mark.parametrize(
    ("sequences", "lost"),
    [
        ([1, 2, 3], [0, 0, 0]),
        ([1, 3, 7], [0, 1, 3]),
        ([4], [3]),
        ([1, 1, 2], [0, 0, 0]),
        ([1, 2**31 - 1], [0, 2**31 - 3]),
    ],
)
def test_a_packet_tells_how_many_pages_are_missing_before_it(
    sequences: list[int], lost: list[int]
) -> None:
    reader = OggReader()
    reader.feed(page_of(b"head", flags=FIRST).to_bytes())
    pages = [page_of(b"one", b"two", sequence=number) for number in sequences]
    packets = reader.feed(b"".join(page.to_bytes() for page in pages))
    assert [packet.lost for packet in packets[::2]] == lost
    assert {packet.lost for packet in packets[1::2]} == {0}


def test_a_stream_that_begins_again_misses_nothing() -> None:
    one, two, three = three_pages()
    packets = OggReader().feed(one + two + three + one + two)
    assert {packet.lost for packet in packets} == {0}


def test_what_was_missing_at_the_end_of_a_stream_is_not_missed_in_the_next() -> None:
    """Here the hole comes before a page on which no packet ends."""
    one, two, _ = three_pages()
    unfinished = Page(b"\xff", data(255), granule=NO_PACKET_ENDS, sequence=9).to_bytes()
    packets = OggReader().feed(one + unfinished + one + two)
    assert [packet.lost for packet in packets] == [0, 0, 0, 0]


def test_pages_of_other_streams_are_not_missing_ones() -> None:
    one, two, three = three_pages()
    foreign = page_of(b"foreign", serial=2, sequence=7).to_bytes()
    packets = OggReader().feed(one + two + foreign + three)
    assert {packet.lost for packet in packets} == {0}


def test_a_stream_met_midway_is_read() -> None:
    _, two, three = three_pages()
    assert read(two + three) == ([b"one", b"two", b"three"], {"hole": 1})


@pytest.mark.parametrize("serial", [1, 2])
def test_a_page_that_begins_a_stream_replaces_the_one_in_progress(serial: int) -> None:
    packets = OggReader().feed(b"".join(three_pages()[:2] + three_pages(serial)))
    assert [packet.data for packet in packets] == [
        *(b"head", b"one", b"two"),
        *(b"head", b"one", b"two", b"three"),
    ]
    assert [packet.first for packet in packets].count(True) == 2


def test_a_stream_goes_on_after_its_end() -> None:
    one, two, three = three_pages()
    ended = replace(read_pages(two)[0], flags=LAST).to_bytes()
    assert read(one + ended + three) == ([b"head", b"one", b"two", b"three"], {})


def test_a_page_of_another_version_is_skipped() -> None:
    one, two, three = three_pages()
    odd = page_of(b"odd", version=1, sequence=1).to_bytes()
    packets, damage = read(one + odd + two + three)
    assert packets == [b"head", b"one", b"two", b"three"]
    assert damage == {"foreign-page": 1}


@pytest.mark.parametrize("serial", [1, 2])
def test_a_page_of_another_version_begins_no_stream(serial: int) -> None:
    one, two, three = three_pages()
    odd = page_of(b"odd", version=1, flags=FIRST, serial=serial).to_bytes()
    packets, damage = read(odd + one + two + odd + three)
    assert packets == [b"head", b"one", b"two", b"three"]
    assert damage == {"foreign-page": 2}


def test_a_continuation_of_nothing_is_dropped_and_counted() -> None:
    head = page_of(b"head", flags=FIRST)
    stray = page_of(b"tail", b"whole", flags=CONTINUED, sequence=1)
    packets, damage = read(head.to_bytes() + stray.to_bytes())
    assert packets == [b"head", b"whole"]
    assert damage["broken-packet"] == 1


def test_a_packet_that_is_never_continued_is_dropped_and_counted() -> None:
    """Left alone, libogg would join it with what follows."""
    head = page_of(b"head", flags=FIRST)
    unfinished = Page(b"\xff", data(255), granule=NO_PACKET_ENDS, sequence=1)
    other = page_of(b"other", sequence=2)
    packets, damage = read(b"".join(page.to_bytes() for page in (head, unfinished, other)))
    assert packets == [b"head", b"other"]
    assert damage == {"broken-packet": 1}


def test_a_packet_that_never_ends_is_not_kept() -> None:
    head = page_of(b"head", flags=FIRST)
    full = [
        Page(b"\xff" * 255, bytes(255 * 255), flags=flags, granule=NO_PACKET_ENDS, sequence=n)
        for n, flags in enumerate([0, *[CONTINUED] * 7], start=1)
    ]
    other = page_of(b"other", sequence=9)
    packets, damage = read(b"".join(page.to_bytes() for page in (head, *full, other)))
    assert packets == [b"head", b"other"]
    assert damage["huge-packet"] == 1


def test_packets_that_each_go_on_on_the_next_page_are_no_huge_one() -> None:
    """A muxer that fills its pages up: 300 KiB in packets of 1.5."""
    begin, end = b"\xff" * 4, b"\xff" * 2 + b"\x00"  # 1,020 bytes, then the last 510
    body, tail = bytes(255 * 4), bytes(255 * 2)
    pages = [
        page_of(b"head", flags=FIRST),
        Page(begin, body, granule=NO_PACKET_ENDS, sequence=1),
        *(Page(end + begin, tail + body, flags=CONTINUED, sequence=2 + n) for n in range(200)),
        Page(end, tail, flags=CONTINUED, sequence=202),
    ]
    packets, damage = read(b"".join(page.to_bytes() for page in pages))
    assert [len(packet) for packet in packets] == [4] + [255 * 6] * 201
    assert not damage


def test_a_packet_may_go_on_after_a_page_with_nothing_on_it() -> None:
    pages = [
        page_of(b"head", flags=FIRST),
        Page(b"\xff", data(255), granule=NO_PACKET_ENDS, sequence=1),
        Page(b"", b"", flags=CONTINUED, granule=NO_PACKET_ENDS, sequence=2),
        Page(b"\x01", b"x", flags=CONTINUED, sequence=3),
    ]
    packets, damage = read(b"".join(page.to_bytes() for page in pages))
    assert packets == [b"head", data(255) + b"x"]
    assert not damage


@given(st.lists(st.binary(max_size=50) | st.sampled_from(three_pages()), max_size=20))
def test_nothing_stops_the_reader(parts: list[bytes]) -> None:
    reader = OggReader()
    for part in parts:
        reader.feed(part)
    # A page may be announced, of which the rest doesn't come: so much padding is its end at last.
    reader.feed(bytes(2 * MAX_PAGE_BYTES))
    assert [packet.data for packet in reader.feed(three_pages()[0])] == [b"head"]


def test_a_granule_position_is_64_bits_little_endian() -> None:
    writer = OggWriter(1)
    writer.page([b"head"], 0)
    page = writer.page([b"x"], 0x0102030405060708)
    assert page[6:14] == struct.pack("<Q", 0x0102030405060708)
