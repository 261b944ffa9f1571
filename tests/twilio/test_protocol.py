"""The order of events on a media stream."""

from dataclasses import replace

import pytest

from personaplex_bridge.errors import MessageError
from personaplex_bridge.twilio.inbound import (
    Connected,
    Dtmf,
    Inbound,
    Mark,
    Media,
    MediaFormat,
    Start,
    Stop,
    serialize,
)
from personaplex_bridge.twilio.protocol import StreamProtocol, StreamState

CONNECTED = Connected()
START = Start("MZ1", "CA1", "AC1")
MEDIA = Media("MZ1", 2, 1, 0, b"\xff" * 160)
DTMF = Dtmf("MZ1", 3, "1")
MARK = Mark("MZ1", 4, "x")
STOP = Stop("MZ1", 5, "CA1", "AC1")
EVENTS: dict[str, Inbound] = {
    "connected": CONNECTED,
    "start": START,
    "media": MEDIA,
    "dtmf": DTMF,
    "mark": MARK,
    "stop": STOP,
}
WAY_TO: dict[StreamState, list[Inbound]] = {
    StreamState.OPENED: [],
    StreamState.STARTED: [START],
    StreamState.STOPPED: [START, STOP],
}
ALLOWED = {
    StreamState.OPENED: {"connected": StreamState.OPENED, "start": StreamState.STARTED},
    StreamState.STARTED: {
        "media": StreamState.STARTED,
        "dtmf": StreamState.STARTED,
        "mark": StreamState.STARTED,
        "stop": StreamState.STOPPED,
    },
    StreamState.STOPPED: {},
}
REFUSED = [(state, name) for state in StreamState for name in EVENTS if name not in ALLOWED[state]]


def stream_in(state: StreamState) -> StreamProtocol:
    protocol = StreamProtocol()
    for event in WAY_TO[state]:
        protocol.receive(serialize(event))
    assert protocol.state is state
    return protocol


@pytest.mark.parametrize(
    ("state", "name", "following"),
    [(state, name, to) for state, row in ALLOWED.items() for name, to in row.items()],
)
def test_what_may_come(state: StreamState, name: str, following: StreamState) -> None:
    protocol = stream_in(state)
    assert protocol.receive(serialize(EVENTS[name])) == EVENTS[name]
    assert protocol.state is following


@pytest.mark.parametrize(("state", "name"), REFUSED)
def test_what_may_not_come(state: StreamState, name: str) -> None:
    protocol = stream_in(state)
    sid = protocol.stream_sid
    with pytest.raises(MessageError) as caught:
        protocol.receive(serialize(EVENTS[name]))
    opened = state is StreamState.OPENED
    assert caught.value.reason == (f"{name}-before-start" if opened else f"unexpected-{name}")
    assert protocol.state is state
    assert protocol.stream_sid == sid


@pytest.mark.parametrize("event", [MEDIA, DTMF, MARK, STOP], ids=lambda event: type(event).__name__)
def test_another_streams_event_is_refused(event: Media | Dtmf | Mark | Stop) -> None:
    protocol = stream_in(StreamState.STARTED)
    with pytest.raises(MessageError) as caught:
        protocol.receive(serialize(replace(event, stream_sid="\U000e0001" * 40)))
    assert caught.value.reason == "wrong-stream"
    assert len(str(caught.value)) < 100
    assert protocol.state is StreamState.STARTED
    assert protocol.receive(serialize(event)) == event


@pytest.mark.parametrize(
    "found",
    [
        MediaFormat(encoding="audio/L16"),
        MediaFormat(sample_rate_hz=16000),
        MediaFormat(channels=2),
    ],
)
def test_another_format_is_refused_and_a_right_start_may_follow(found: MediaFormat) -> None:
    protocol = stream_in(StreamState.OPENED)
    with pytest.raises(MessageError) as caught:
        protocol.receive(serialize(replace(START, media_format=found)))
    assert caught.value.reason == "bad-format"
    assert (protocol.state, protocol.stream_sid) == (StreamState.OPENED, "")
    assert protocol.receive(serialize(START)) == START


@pytest.mark.parametrize("state", StreamState)
def test_a_malformed_frame_changes_nothing(state: StreamState) -> None:
    protocol = stream_in(state)
    with pytest.raises(MessageError):
        protocol.receive('{"event":"media"')
    assert protocol.state is state


HD = MediaFormat("audio/L16", 24_000, 1)


def test_a_stream_may_be_made_for_another_format_and_then_takes_no_other() -> None:
    protocol = StreamProtocol(HD)
    for found in (MediaFormat(), replace(HD, sample_rate_hz=16_000), replace(HD, channels=2)):
        with pytest.raises(MessageError, match="must be audio/L16, 24000 Hz") as caught:
            protocol.receive(serialize(replace(START, media_format=found)))
        assert caught.value.reason == "bad-format"
    assert protocol.receive(serialize(replace(START, media_format=HD)))


@pytest.mark.parametrize(("size", "is_whole"), [(1, False), (2, True), (959, False), (960, True)])
def test_samples_of_two_bytes_come_whole(size: int, is_whole: bool) -> None:
    protocol = StreamProtocol(HD)
    protocol.receive(serialize(replace(START, media_format=HD)))
    event = Media(START.stream_sid, 2, 1, 0, b"\x01" * size)
    if is_whole:
        assert protocol.receive(serialize(event)) == event
        return
    with pytest.raises(MessageError) as caught:
        protocol.receive(serialize(event))
    assert caught.value.reason == "split-sample"
    assert protocol.state is StreamState.STARTED


def test_what_a_stranger_calls_a_format_is_told_in_brief() -> None:
    found = MediaFormat("\n" + "x" * 500)
    with pytest.raises(MessageError) as caught:
        StreamProtocol().receive(serialize(replace(START, media_format=found)))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)
