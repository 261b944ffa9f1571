"""Our messages to Twilio, and the strictness with which its stand-in reads them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import MessageError
from personaplex_bridge.twilio.outbound import (
    Clear,
    Outbound,
    PlayMedia,
    SendMark,
    parse,
    serialize,
)

words = st.text(max_size=40)
events: st.SearchStrategy[Outbound] = st.one_of(
    st.builds(PlayMedia, words, st.binary(min_size=1, max_size=2000)),
    st.builds(SendMark, words, words),
    st.builds(Clear, words),
)
# As documented: https://www.twilio.com/docs/voice/media-streams/websocket-messages
DOCUMENTED: list[tuple[str, Outbound]] = [
    (
        '{"event":"media","streamSid":"MZ1","media":{"payload":"//9/"}}',
        PlayMedia("MZ1", b"\xff\xff\x7f"),
    ),
    ('{"event":"mark","streamSid":"MZ1","mark":{"name":"x"}}', SendMark("MZ1", "x")),
    ('{"event":"clear","streamSid":"MZ1"}', Clear("MZ1")),
]


@given(events)
def test_parse_after_serialize_is_the_identity(event: Outbound) -> None:
    assert parse(serialize(event)) == event


@pytest.mark.parametrize(("text", "event"), DOCUMENTED, ids=["media", "mark", "clear"])
def test_documented_messages(text: str, event: Outbound) -> None:
    assert parse(text) == event
    assert json.loads(serialize(event)) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "bad-json"),
        ("[]", "bad-json"),
        ("{}", "unknown-event"),
        ('{"event":["media"],"streamSid":"MZ1"}', "unknown-event"),
        ('{"event":' + "[" * 1020 + "]" * 1020 + "}", "unknown-event"),
        ('{"event":"stop","streamSid":"MZ1"}', "unknown-event"),
        ('{"event":"clear"}', "bad-field"),
        ('{"event":"clear","streamSid":1}', "bad-field"),
        ('{"event":"clear","streamSid":"MZ1","sequenceNumber":"1"}', "bad-field"),
        ('{"event":"mark","streamSid":"MZ1"}', "bad-field"),
        ('{"event":"mark","streamSid":"MZ1","mark":{}}', "bad-field"),
        ('{"event":"mark","streamSid":"MZ1","mark":{"name":"x","more":1}}', "bad-field"),
        ('{"event":"media","media":{"payload":"AAAA"}}', "bad-field"),
        ('{"event":"media","streamSid":"MZ1","media":"AAAA"}', "bad-field"),
        (
            '{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA","track":"outbound"}}',
            "bad-field",
        ),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":""}}', "bad-base64"),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":"A==="}}', "bad-base64"),
        (
            f'{{"event":"media","streamSid":"MZ1","media":{{"payload":"{"A" * 640_008}"}}}}',
            "huge-payload",
        ),
    ],
    ids=lambda value: value[:60],
)
def test_what_twilio_would_refuse(text: str, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(text)
    assert caught.value.reason == reason


def test_the_extra_field_is_named() -> None:
    with pytest.raises(MessageError, match="extra field 'volume'"):
        parse('{"event":"clear","streamSid":"MZ1","volume":11}')


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_an_event_or_a_message_error(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        parse(data)
