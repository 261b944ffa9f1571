"""What is fuzzed, and what must hold: one function for each of the three parsers.

Each takes any bytes at all and returns, or it has found a bug. The rule behind all of them: input
from outside becomes events, or one error of the kind that the docstring promises, or is counted
as damage; it moves no state when it is refused; and what is kept and given out is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from typing import TypeAlias

from fuzz.inputs import Stream, split_frames
from personaplex_bridge.audio.downlink import MAX_CONCEALED, MAX_FEED_S, make_downlink
from personaplex_bridge.audio.mulaw import FRAME_BYTES, SAMPLE_RATE_HZ
from personaplex_bridge.audio.ogg import OggReader
from personaplex_bridge.audio.opus import MAX_PACKET_MS, packet_samples
from personaplex_bridge.errors import LocalProtocolError, MessageError, OpusError
from personaplex_bridge.personaplex import messages
from personaplex_bridge.personaplex.messages import Audio, Text
from personaplex_bridge.personaplex.protocol import LineProtocol, LineState
from personaplex_bridge.personaplex.text import MAX_WORD_CHARS, WordJoiner
from personaplex_bridge.twilio import inbound
from personaplex_bridge.twilio.inbound import Connected, Inbound, Start, Stop
from personaplex_bridge.twilio.protocol import StreamProtocol, StreamState

Target: TypeAlias = Callable[[bytes], None]

_MAX_ERROR_CHARS = 200
"""An error goes into a line of a log."""

_MALFORMED = {"bad-json", "unknown-event", "bad-field", "bad-base64", "huge-payload"}
_OUT_OF_ORDER = {f"{name}-before-start" for name in ("media", "dtmf", "mark", "stop")} | {
    f"unexpected-{name}" for name in ("connected", "start", "media", "dtmf", "mark", "stop")
}
_REFUSED = _MALFORMED | _OUT_OF_ORDER | {"bad-format", "wrong-stream"}

_IGNORED = {"empty-message", "text-frame", "unknown-kind", "unexpected-handshake"} | {
    f"{name}-before-handshake" for name in ("audio", "text", "control")
}

_UNREADABLE = {"skipped-bytes", "hole", "foreign-page", "broken-packet", "huge-packet"}
_DAMAGE = _UNREADABLE | {"corrupt-packet", "flood"}

_LAST_MS = MAX_PACKET_MS * (1 + MAX_CONCEALED)
"""The packet that fills a message's measure is decoded whole, with what is missing before it."""
_MAX_SOUND_BYTES = (MAX_FEED_S * 1000 + _LAST_MS) * SAMPLE_RATE_HZ // 1000 + FRAME_BYTES


def twilio(data: bytes) -> None:
    """Frames from Twilio: each is an event that may come now, or one MessageError."""
    protocol = StreamProtocol()
    for frame in split_frames(data):
        parsed = _parsed(frame)
        before = protocol.state, protocol.stream_sid
        try:
            event = protocol.receive(frame)
        except MessageError as error:
            _check_error(error, _REFUSED)
            assert (protocol.state, protocol.stream_sid) == before, "moved by an error"
        else:
            assert event == parsed, "not what parse made of it"
            _check_step(before[0], event, protocol)


def _parsed(frame: bytes) -> Inbound | None:
    """What `parse` makes of a frame, as bytes and as text; None if it refuses."""
    event, why = _outcome(frame)
    if event is not None:
        assert inbound.parse(inbound.serialize(event)) == event, "serialized, it is another"
    if (text := _as_text(frame)) is not None:
        assert _outcome(text) == (event, why), "text and bytes differ"
    return event


def _outcome(frame: bytes | str) -> tuple[Inbound | None, str]:
    try:
        return inbound.parse(frame), ""
    except MessageError as error:
        _check_error(error, _MALFORMED)
        return None, error.reason


def _as_text(frame: bytes) -> str | None:
    """As a WebSocket gives it; one that is no UTF-8 doesn't come that far."""
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return None


def _check_error(error: MessageError, reasons: Container[str]) -> None:
    assert error.reason in reasons, f"a new reason: {error.reason}"
    assert len(str(error)) <= _MAX_ERROR_CHARS, "too long for a log"
    assert str(error).isprintable(), "could forge a line of a log"


def _check_step(before: StreamState, event: Inbound, after: StreamProtocol) -> None:
    """The order of events, told in other words than the protocol's own table."""
    match event:
        case Connected():
            assert before is after.state is StreamState.OPENED
        case Start():
            assert (before, after.state) == (StreamState.OPENED, StreamState.STARTED)
        case Stop():
            assert (before, after.state) == (StreamState.STARTED, StreamState.STOPPED)
        case _:
            assert before is after.state is StreamState.STARTED
    if not isinstance(event, Connected):
        assert event.stream_sid == after.stream_sid, "an event of another stream"


def model(data: bytes) -> None:
    """Frames from the model: each is a message, or ignored and counted; its text becomes words."""
    line = LineProtocol()
    _check_sending(line)
    pieces = []
    for frame in split_frames(data):
        message = _received(line, frame)
        if isinstance(message, Text):
            pieces.append(message.piece)
    _check_sending(line)
    _check_ignored(line, data.decode("utf-8", "replace"))
    _check_words(pieces)


def _received(line: LineProtocol, frame: bytes) -> messages.Message | None:
    before = line.state
    if not frame:
        _check_ignored(line, frame)
        return None
    parsed = messages.parse(frame)
    assert messages.parse(messages.serialize(parsed)) == parsed, "serialized, it is another"
    counted = line.ignored.total()
    message = line.receive(frame)
    if message is None:
        assert line.ignored.total() == counted + 1, "ignored and not counted"
        assert line.state is before, "moved by an ignored message"
        assert line.ignored.keys() <= _IGNORED, "a new reason"
        return None
    assert message == parsed, "not what parse made of it"
    assert line.ignored.total() == counted, "taken and counted"
    shakes = isinstance(message, messages.Handshake)
    assert line.state is (LineState.TALKING if shakes else before)
    return message


def _check_ignored(line: LineProtocol, frame: bytes | str) -> None:
    """What is no message at all."""
    before, counted = line.state, line.ignored.total()
    assert line.receive(frame) is None
    assert (line.state, line.ignored.total()) == (before, counted + 1)


def _check_sending(line: LineProtocol) -> None:
    try:
        sent = line.send_audio(b"OggS")
    except LocalProtocolError:
        assert line.state is LineState.WAITING
    else:
        assert line.state is LineState.TALKING
        assert messages.parse(sent) == Audio(b"OggS")


def _check_words(pieces: list[str]) -> None:
    joiner = WordJoiner()
    words = [word for piece in pieces for word in joiner.feed(piece)]
    kept = joiner.flush()
    assert sum(map(len, kept)) <= MAX_WORD_CHARS + 1, "keeps more than a word"  # U+FFFD at its end
    assert joiner.flush() == [], "not empty after a flush"
    words += kept
    assert all(len(word) <= MAX_WORD_CHARS for word in words), "too long a word"
    assert all(word.split() == [word] for word in words), "empty, or a space in it"
    text = "".join(pieces)
    assert sum(map(len, words)) <= len(text), "more text than came"
    if "<" not in text:
        assert "".join(words) == "".join(text.split()), "other text than came"


def audio(data: bytes) -> None:
    """Ogg bytes cut anywhere: the same packets and sound as in one piece, damage counted."""
    pieces = Stream.parse(data).pieces()
    packets = _check_reader(pieces)
    in_pieces, damage = _heard(pieces, packets)
    if len(pieces) == 1:
        return
    in_one, damage_in_one = _heard([b"".join(pieces)], packets)
    if not damage["flood"] and not damage_in_one["flood"]:  # that bound is a message's
        assert in_pieces == in_one, "cuts change the sound"


def _check_reader(pieces: list[bytes]) -> int:
    """How many packets there are."""
    reader, stream = OggReader(), b"".join(pieces)
    packets = [packet for piece in pieces for packet in reader.feed(piece)]
    assert packets == OggReader().feed(stream), "cuts change the packets"
    assert reader.damage.keys() <= _UNREADABLE, "a new kind of damage"
    assert 0 <= reader.damage["skipped-bytes"] <= len(stream)
    assert sum(len(packet.data) for packet in packets) <= len(stream), "more than came"
    for packet in packets:
        assert packet.lost == 0 if packet.first else packet.lost >= 0, "lost before a beginning"
        _check_packet(packet.data)
    return len(packets)


def _check_packet(packet: bytes) -> None:
    try:
        samples = packet_samples(packet, SAMPLE_RATE_HZ)
    except OpusError:
        return
    assert 0 < samples <= MAX_PACKET_MS * SAMPLE_RATE_HZ // 1000


def _heard(pieces: list[bytes], packets: int) -> tuple[bytes, Counter[str]]:
    """All the sound of a stream, and what was wrong with it."""
    downlink = make_downlink("native")
    heard = b""
    for piece in pieces:
        sound = downlink.feed(piece)
        assert len(sound) <= _MAX_SOUND_BYTES, "more than a message may hold"
        assert len(sound) % FRAME_BYTES == 0, "not whole frames"
        assert downlink.held_frames == 0, "keeps whole frames"
        heard += sound
    heard += downlink.flush()
    assert downlink.flush() == b"", "not empty after a flush"
    decoded_bytes = round(downlink.decoded_ms * SAMPLE_RATE_HZ / 1000)
    assert len(heard) == -(-decoded_bytes // FRAME_BYTES) * FRAME_BYTES, "sound lost or made"
    assert downlink.damage.keys() <= _DAMAGE, "a new kind of damage"
    assert downlink.packets <= packets, "more than came"
    most = downlink.damage["corrupt-packet"] + MAX_CONCEALED * packets
    assert downlink.concealed <= most, "makes up too much"
    return heard, downlink.damage


TARGETS: dict[str, Target] = {"twilio": twilio, "model": model, "audio": audio}
