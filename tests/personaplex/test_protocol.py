"""The client's side of one connection to a model server."""

import pytest

from personaplex_bridge.errors import LocalProtocolError
from personaplex_bridge.personaplex.messages import (
    Audio,
    Control,
    Handshake,
    Message,
    Metadata,
    Ping,
    ServerError,
    Text,
    Unknown,
    serialize,
)
from personaplex_bridge.personaplex.protocol import LineProtocol, LineState

WAITING, TALKING = LineState.WAITING, LineState.TALKING
MESSAGES: list[Message] = [
    Handshake(b"12345678"),
    Audio(b"OggS"),
    Text(" Hello"),
    Control(b"\0"),
    Metadata(b"{}"),
    ServerError("no"),
    Ping(),
    Unknown(7, b""),
]
IGNORED: dict[tuple[LineState, type[Message]], str] = {
    (WAITING, Audio): "audio-before-handshake",
    (WAITING, Text): "text-before-handshake",
    (WAITING, Control): "control-before-handshake",
    (WAITING, Unknown): "unknown-kind",
    (TALKING, Handshake): "unexpected-handshake",
    (TALKING, Unknown): "unknown-kind",
}
"""What is ignored and counted, and under which name. Everything else is let through."""


def line_in(state: LineState) -> LineProtocol:
    protocol = LineProtocol()
    if state is TALKING:
        protocol.receive(serialize(Handshake()))
    assert protocol.state is state
    return protocol


@pytest.mark.parametrize("state", LineState)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_table(state: LineState, message: Message) -> None:
    protocol = line_in(state)
    why = IGNORED.get((state, type(message)))
    received = protocol.receive(serialize(message))
    if why is None:
        assert received == message
        assert not protocol.ignored
        assert protocol.state is (TALKING if isinstance(message, Handshake) else state)
    else:
        assert received is None
        assert protocol.ignored == {why: 1}
        assert protocol.state is state


@pytest.mark.parametrize("state", LineState)
@pytest.mark.parametrize(
    ("frame", "why"), [("text", "text-frame"), ("", "text-frame"), (b"", "empty-message")]
)
def test_frames_that_are_no_messages(state: LineState, frame: str | bytes, why: str) -> None:
    protocol = line_in(state)
    assert protocol.receive(frame) is None
    assert protocol.receive(frame) is None
    assert protocol.ignored == {why: 2}
    assert protocol.state is state


def test_audio_may_be_sent_only_after_the_handshake() -> None:
    protocol = line_in(WAITING)
    with pytest.raises(LocalProtocolError):
        protocol.send_audio(b"OggS")
    protocol.receive(serialize(ServerError("wait")))
    with pytest.raises(LocalProtocolError):
        protocol.send_audio(b"OggS")
    protocol.receive(serialize(Handshake()))
    assert protocol.send_audio(b"OggS") == b"\x01OggS"
