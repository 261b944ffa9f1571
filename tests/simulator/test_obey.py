"""TwiML as Twilio reads it."""

import pytest

from personaplex_bridge.simulator.obey import (
    MAX_TWIML_BYTES,
    ConnectStream,
    Dial,
    Enqueue,
    Hangup,
    Leave,
    Pause,
    Play,
    Record,
    Redirect,
    Reject,
    Say,
    TwimlError,
    Verb,
    read_twiml,
)
from personaplex_bridge.twilio import twiml
from personaplex_bridge.twilio.twiml import Words, connect_stream, reject_busy

URL = "wss://bridge.example/voice/stream"
PARAMETERS = {"persona": "noir", "text_prompt": 'You are "Zoë" & <co>.'}


def response(content: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{content}</Response>'


def stream(url: str) -> str:
    return response(f'<Connect><Stream url="{url}"/></Connect>')


def test_our_own_documents() -> None:
    assert read_twiml(connect_stream(URL, PARAMETERS)) == [
        ConnectStream(URL, PARAMETERS),
        Hangup(),
    ]
    assert read_twiml(reject_busy()) == [Reject("busy")]


AFTER = "https://bridge.example/voice/after?a=1&b=2"
WORDS = Words("Sorry & <goodbye>")


@pytest.mark.parametrize(
    ("document", "verbs"),
    [
        (connect_stream(URL, {}, AFTER), [ConnectStream(URL, {}, AFTER), Hangup()]),
        (twiml.hang_up(WORDS), [Say(WORDS.text), Hangup()]),
        (twiml.redirect(AFTER), [Redirect(AFTER)]),
        (twiml.enqueue(AFTER, AFTER), [Enqueue("personaplex", AFTER, AFTER), Hangup()]),
        (twiml.forward("+15550100", AFTER), [Dial("+15550100", AFTER, 30)]),
        (twiml.forward("sip:a@b.example", AFTER), [Dial("sip:a@b.example", AFTER, 30)]),
        (twiml.take_message(WORDS, AFTER), [Say(WORDS.text), Record(AFTER, 5, 120), Hangup()]),
    ],
)
def test_our_documents_for_a_call(document: str, verbs: list[Verb]) -> None:
    assert read_twiml(document) == verbs


@pytest.mark.parametrize(
    ("document", "verbs"),
    [
        (twiml.hold(WORDS, AFTER), [Say(WORDS.text), Play(AFTER)]),
        (twiml.hold(None, None), [Pause(2)]),
        (twiml.leave_queue(), [Leave()]),
    ],
)
def test_our_documents_for_those_who_hold(document: str, verbs: list[Verb]) -> None:
    assert read_twiml(document, waiting=True) == verbs


@pytest.mark.parametrize(
    "verb", ["Dial", "Record", "Connect", "Enqueue", "Reject", "Start", "Message"]
)
def test_what_may_not_stand_in_a_wait_urls_document(verb: str) -> None:
    with pytest.raises(TwimlError, match=f"<{verb}> may not stand in a waitUrl's document"):
        read_twiml(response(f"<Say>Hi</Say><{verb}/>"), waiting=True)


def test_verbs_in_order() -> None:
    document = response("<Say>One <!-- two --></Say><Reject/><Hangup/>")
    assert read_twiml(document) == [Say("One "), Reject("rejected"), Hangup()]
    assert read_twiml(response("")) == []


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "wss://bridge.example:8443/s",
        "ws://127.0.0.1:8080/s",
        "ws://localhost/s",
        "ws://[::1]/s",
    ],
)
def test_stream_urls_that_are_fine(url: str) -> None:
    assert read_twiml(stream(url)) == [ConnectStream(url)]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ws://bridge.example/s", "must be wss, not 'ws'"),
        ("ws://127.0.0.1.example/s", "must be wss, not 'ws'"),
        ("https://bridge.example/s", "must be wss, not 'https'"),
        ("", "must be wss"),
        ("/voice/stream", "must be wss"),
        ("wss:///voice/stream", "no host"),
        ("wss://[bridge/s", "no URL"),
        ("wss://bridge.example:port/s", "no URL"),
        ("wss://bridge.example:65536/s", "no URL"),
        (f"{URL}?persona=noir", "31920"),
        ("ws://127.0.0.1/s?persona=noir", "31920"),
    ],
)
def test_stream_urls_that_are_not(url: str, why: str) -> None:
    with pytest.raises(TwimlError, match=why):
        read_twiml(stream(url))


STREAM = f'<Stream url="{URL}"/>'


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("", "12100"),
        ("no XML", "12100"),
        ("<Response><Hangup></Response>", "12100"),
        ("<Response/><Response/>", "12100"),
        ("<Responses/>", "not <Response>"),
        ("<response/>", "not <Response>"),
        ("<!DOCTYPE Response><Response/>", "document type"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><Response>&a;</Response>', "document type"),
        (response("<Refer/>"), "<Refer> is not a verb"),
        (response("<Leave/>"), "outside of a queue"),
        (response("<Play/>"), "without a URL"),
        (response("<Redirect> </Redirect>"), "without a URL"),
        (response('<Redirect method="GET">/x</Redirect>'), "only posts"),
        (response('<Pause length="x"/>'), "length='x' is no number"),
        (response("<Enqueue/>"), "1 to 64 characters"),
        (response(f"<Enqueue>{'x' * 65}</Enqueue>"), "1 to 64 characters"),
        (response("<Enqueue>x</Enqueue>"), "without waitUrl"),
        (response("<Dial/>"), "13224"),
        (response("<Dial><Sim>x</Sim></Dial>"), "one <Number>, <Sip> or <Client>"),
        (response('<Dial timeout="4">+15550100</Dial>'), "no number from 5 to 600"),
        (response("<Record/>"), "its own document over and over"),
        (response("<hangup/>"), "<hangup> is not a verb"),
        (response(STREAM), "<Stream> is not a verb"),
        (response("<Connect/>"), "exactly one <Stream>"),
        (response(f"<Connect>{STREAM}{STREAM}</Connect>"), "exactly one <Stream>"),
        (response(f"<Connect><Connect>{STREAM}</Connect></Connect>"), "exactly one <Stream>"),
        (response("<Connect><Say>hello</Say></Connect>"), "exactly one <Stream>"),
        (
            response(
                f'<Connect><Stream url="{URL}"><Parameter name="n" value="{"x" * 500}"/>'
                "</Stream></Connect>"
            ),
            "'n' is longer than 500",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_documents_that_twilio_would_not_take(document: str, why: str) -> None:
    with pytest.raises(TwimlError, match=why):
        read_twiml(document)


def test_longest_document() -> None:
    empty = response("<Say></Say>")
    longest = response(f"<Say>{'é' * ((MAX_TWIML_BYTES - len(empty)) // 2)}</Say>")
    assert MAX_TWIML_BYTES - 1 <= len(longest.encode()) <= MAX_TWIML_BYTES
    assert len(read_twiml(longest)) == 1
    with pytest.raises(TwimlError, match="64 KB"):
        read_twiml(longest.replace("</Say>", "é</Say>"))
