"""The binary messages of the model server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import MessageError
from personaplex_bridge.personaplex.messages import (
    Audio,
    Control,
    Handshake,
    Kind,
    Message,
    Metadata,
    Ping,
    ServerError,
    Text,
    Unknown,
    parse,
    serialize,
)

payloads = st.binary(max_size=300)
messages: st.SearchStrategy[Message] = st.one_of(
    *(st.builds(kind, payloads) for kind in (Handshake, Audio, Control, Metadata, Ping)),
    *(st.builds(kind, st.text(max_size=50)) for kind in (Text, ServerError)),
    st.builds(Unknown, st.integers(len(Kind), 255), payloads),
)


@given(messages)
def test_parse_after_serialize_is_the_identity(message: Message) -> None:
    assert parse(serialize(message)) == message


@given(st.integers(0, 255), st.text(max_size=50).map(str.encode))
def test_serialize_after_parse_is_the_identity_for_all_kinds(kind: int, payload: bytes) -> None:
    frame = bytes([kind]) + payload
    assert serialize(parse(frame)) == frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\x00", Handshake()),
        (b"\x00\x01\x00\x00\x00\x02\x00\x00\x00", Handshake(b"\x01\0\0\0\x02\0\0\0")),
        (b"\x01OggS", Audio(b"OggS")),
        (b"\x02 Hello", Text(" Hello")),
        (b"\x02<0xC3>", Text("<0xC3>")),
        (b"\x02\xc3", Text("\ufffd")),
        (b"\x03\x00", Control(b"\0")),
        (b"\x04{}", Metadata(b"{}")),
        (b"\x05no \xe2\x82\xac", ServerError("no €")),
        (b"\x05\xff", ServerError("\ufffd")),
        (b"\x06", Ping()),
        (b"\x07", Unknown(7, b"")),
        (b"\xffrest", Unknown(255, b"rest")),
    ],
)
def test_frames_of_each_kind(frame: bytes, message: Message) -> None:
    assert parse(frame) == message


def test_an_empty_message() -> None:
    with pytest.raises(MessageError) as caught:
        parse(b"")
    assert caught.value.reason == "empty-message"


@given(st.binary(min_size=1, max_size=100))
def test_anything_else_is_a_message(frame: bytes) -> None:
    parse(frame)
