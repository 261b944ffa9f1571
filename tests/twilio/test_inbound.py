"""Media Streams messages from Twilio."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    parse,
    serialize,
)

numbers = st.integers(0, 10**18)
payloads = st.binary(min_size=1, max_size=400)
words = st.text(max_size=40)
events: st.SearchStrategy[Inbound] = st.one_of(
    st.builds(Connected, words, words),
    st.builds(
        Start,
        *(words, words, words, numbers),
        tracks=st.lists(words, max_size=3).map(tuple),
        media_format=st.builds(MediaFormat, words, st.integers(0, 2**31), st.integers(0, 9)),
        custom_parameters=st.dictionaries(words, words, max_size=5),
    ),
    st.builds(Media, words, numbers, numbers, numbers, payloads, words),
    st.builds(Dtmf, words, numbers, words, words),
    st.builds(Mark, words, numbers, words),
    st.builds(Stop, words, numbers, words, words),
)


@given(events)
def test_parse_after_serialize_is_the_identity(event: Inbound) -> None:
    assert parse(serialize(event)) == event


# As documented: https://www.twilio.com/docs/voice/media-streams/websocket-messages
START = (
    '{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"accountSid":"AC1",'
    '"streamSid":"MZ1","callSid":"CA1","tracks":["inbound"],"mediaFormat":{"encoding":'
    '"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"name":"value"}}}'
)
MEDIA = (
    '{"event":"media","sequenceNumber":"4","streamSid":"MZ1","media":{"track":"inbound",'
    '"chunk":"2","timestamp":"20","payload":"//9/"}}'
)
DTMF = (
    '{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5",'
    '"dtmf":{"track":"inbound_track","digit":"1"}}'
)
MARK = '{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"x"}}'
STOP = (
    '{"event":"stop","sequenceNumber":"5","streamSid":"MZ1",'
    '"stop":{"accountSid":"AC1","callSid":"CA1"}}'
)
CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
DOCUMENTED: list[tuple[str, Inbound]] = [
    (CONNECTED, Connected("Call", "1.0.0")),
    (START, Start("MZ1", "CA1", "AC1", 1, custom_parameters={"name": "value"})),
    (MEDIA, Media("MZ1", 4, 2, 20, b"\xff\xff\x7f")),
    (DTMF, Dtmf("MZ1", 5, "1")),
    (MARK, Mark("MZ1", 4, "x")),
    (STOP, Stop("MZ1", 5, "CA1", "AC1")),
]


@pytest.mark.parametrize(("text", "event"), DOCUMENTED, ids=lambda value: type(value).__name__)
def test_documented_messages(text: str, event: Inbound) -> None:
    assert parse(text) == event
    assert json.loads(serialize(event)) == json.loads(text)


def test_fields_we_do_not_know_are_ignored() -> None:
    assert parse(MARK[:-1] + ',"new":{"field":1}}') == Mark("MZ1", 4, "x")


def test_start_without_parameters_and_tracks() -> None:
    message = json.loads(START)
    del message["start"]["customParameters"], message["start"]["tracks"]
    assert parse(json.dumps(message)) == Start("MZ1", "CA1", "AC1", 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "bad-json"),
        ("{", "bad-json"),
        ("[1]", "bad-json"),
        ("null", "bad-json"),
        (b"\xff\xfe", "bad-json"),
        ("\ud800", "bad-json"),
        ("[" * 100_000, "bad-json"),
        ("{}", "unknown-event"),
        ('{"event":null}', "unknown-event"),
        ('{"event":["media"]}', "unknown-event"),
        ('{"event":"Media"}', "unknown-event"),
        # As deep as JSON is read, which is deeper than Python shows it.
        ('{"event":' + "[" * 1020 + "]" * 1020 + "}", "unknown-event"),
        ('{"event":"media"}', "bad-field"),
        ('{"event":"media","media":[]}', "bad-field"),
    ],
)
def test_what_is_no_event(text: str | bytes, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(text)
    assert caught.value.reason == reason


WRONG_FIELDS: list[tuple[str, str, object]] = [
    (CONNECTED, "protocol", 1),
    (START, "streamSid", None),
    (START, "sequenceNumber", 1),
    (START, "start", "text"),
    (START, "start.callSid", 7),
    (START, "start.accountSid", None),
    (START, "start.tracks", "inbound"),
    (START, "start.tracks", [1]),
    (START, "start.customParameters", ["a"]),
    (START, "start.customParameters", {"a": 1}),
    (START, "start.mediaFormat", None),
    (START, "start.mediaFormat.encoding", 8000),
    (START, "start.mediaFormat.sampleRate", "8000"),
    (START, "start.mediaFormat.sampleRate", 8000.0),
    (START, "start.mediaFormat.channels", True),
    (MEDIA, "sequenceNumber", "four"),
    (MEDIA, "sequenceNumber", "-4"),
    (MEDIA, "sequenceNumber", ""),
    (MEDIA, "sequenceNumber", "٤"),
    (MEDIA, "sequenceNumber", "9" * 5000),
    (MEDIA, "media.chunk", 2),
    (MEDIA, "media.timestamp", None),
    (MEDIA, "media.track", 0),
    (MEDIA, "media.payload", None),
    (MEDIA, "media.payload", 3),
    (DTMF, "dtmf.digit", 1),
    (DTMF, "dtmf", None),
    (MARK, "mark.name", None),
    (MARK, "mark", "x"),
    (STOP, "stop.callSid", None),
    (STOP, "stop.accountSid", {}),
]


@pytest.mark.parametrize(("text", "path", "value"), WRONG_FIELDS)
def test_missing_and_wrong_fields(text: str, path: str, value: object) -> None:
    """None stands for a field that is missing."""
    *way, name = path.split(".")
    with pytest.raises(MessageError, match=name) as caught:
        parse(_changed(text, way, name, value))
    assert caught.value.reason == "bad-field"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "bad-base64"),
        ("A", "bad-base64"),
        ("AAA", "bad-base64"),
        ("AA=A", "bad-base64"),
        ("AA AA", "bad-base64"),
        ("AAAA\n", "bad-base64"),
        ("AA-_", "bad-base64"),
        ("é===", "bad-base64"),
        ("A" * 640_008, "huge-payload"),
    ],
    ids=lambda value: value[:10],
)
def test_bad_payloads(payload: str, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(_changed(MEDIA, ["media"], "payload", payload))
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["\x7f" * 70, "\U000e0001" * 70, "x" * 50_000, "\n"])
def test_an_unknown_event_is_told_in_one_short_line(name: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(json.dumps({"event": name}))
    assert len(str(caught.value)) < 100
    assert str(caught.value).isprintable()


def test_a_minute_of_payload_is_accepted() -> None:
    minute = b"\x00" * 60 * 8000
    event = parse(_changed(MEDIA, ["media"], "payload", base64.b64encode(minute).decode()))
    assert isinstance(event, Media)
    assert event.payload == minute


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PATHS = sorted(
    {
        (text, path)
        for text, path, _ in WRONG_FIELDS
        # The other fields take any value of their type, so most changes would be right.
    }
)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_an_event_or_a_message_error(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        parse(data)


@given(st.sampled_from(PATHS), json_values)
def test_arbitrary_values_give_an_event_or_a_message_error(
    place: tuple[str, str], value: object
) -> None:
    text, path = place
    *way, name = path.split(".")
    with contextlib.suppress(MessageError):
        event = parse(_changed(text, way, name, value))
        assert parse(serialize(event)) == event


def _changed(text: str, way: list[str], name: str, value: object) -> str:
    message: dict[str, Any] = json.loads(text)
    body = message
    for step in way:
        body = body[step]
    del body[name]
    if value is not None:
        body[name] = value
    return json.dumps(message)
