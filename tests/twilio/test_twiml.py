"""The TwiML that answers a call, read back by an XML parser."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge import values
from personaplex_bridge.twilio.twiml import (
    MAX_PARAMETER_CHARS,
    Words,
    connect_stream,
    enqueue,
    fits_parameter,
    forward,
    hang_up,
    hold,
    leave_queue,
    redirect,
    reject_busy,
    take_message,
)

URL = "wss://bridge.example/voice/stream"
ACTION = "https://bridge.example/voice/after?persona=a%20%26%20b&voice=NATF2"
SORRY = Words("Sorry, <we> can't & won't.", "de-DE")
SPOKEN = ("Say", {"language": "de-DE"}, "Sorry, <we> can't & won't.")


def parameters_of(document: str) -> dict[str, str]:
    found = ET.fromstring(document).iterfind("Connect/Stream/Parameter")
    return {element.attrib["name"]: element.attrib["value"] for element in found}


def test_structure() -> None:
    root = ET.fromstring(connect_stream(URL, {"persona": "noir", "voice": "NATM1"}))
    assert root.tag == "Response"
    assert [verb.tag for verb in root] == ["Connect", "Hangup"]
    (stream,) = root[0]
    assert (stream.tag, stream.attrib) == ("Stream", {"url": URL})
    assert [child.tag for child in stream] == ["Parameter", "Parameter"]


@pytest.mark.parametrize(
    "value",
    [
        '"quotes" & <tags>',
        "it's",
        "déjà vu, 日本語 😀",
        "]]>",
        "&amp;",
        "two\nlines\tand a tab",
        "",
    ],
)
def test_parameters_survive(value: str) -> None:
    parameters = {"persona": "assistant", "text_prompt": value}
    assert parameters_of(connect_stream(URL, parameters)) == parameters


@pytest.mark.parametrize("url", [f"{URL}?persona=noir", f"{URL}?"])
def test_a_query_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="query"):
        connect_stream(url, {})


def test_longest_parameter() -> None:
    name = "text_prompt"
    longest = "ü" * (MAX_PARAMETER_CHARS - len(name))
    assert fits_parameter(name, longest)
    assert parameters_of(connect_stream(URL, {name: longest})) == {name: longest}
    assert not fits_parameter(name, longest + "ü")
    with pytest.raises(ValueError, match="text_prompt"):
        connect_stream(URL, {name: longest + "ü"})


def test_busy() -> None:
    (verb,) = ET.fromstring(reject_busy())
    assert (verb.tag, verb.attrib) == ("Reject", {"reason": "busy"})


def verbs_of(document: str) -> list[tuple[str, dict[str, str], str]]:
    """Name, attributes and text of each verb."""
    root = ET.fromstring(document)
    assert root.tag == "Response"
    return [(verb.tag, dict(verb.attrib), verb.text or "") for verb in root]


def test_after_the_stream_twilio_asks_the_action() -> None:
    root = ET.fromstring(connect_stream(URL, {}, ACTION))
    assert [verb.tag for verb in root] == ["Connect", "Hangup"]
    assert root[0].attrib == {"action": ACTION}


def test_hanging_up() -> None:
    assert verbs_of(hang_up()) == [("Hangup", {}, "")]
    assert verbs_of(hang_up(SORRY)) == [SPOKEN, ("Hangup", {}, "")]


def test_redirecting() -> None:
    assert verbs_of(redirect(ACTION, SORRY)) == [SPOKEN, ("Redirect", {}, ACTION)]


def test_the_queue() -> None:
    wait = ACTION.replace("after", "wait")
    assert verbs_of(enqueue(wait, ACTION)) == [
        ("Enqueue", {"waitUrl": wait, "action": ACTION}, "personaplex"),
        ("Hangup", {}, ""),
    ]
    assert verbs_of(leave_queue()) == [("Leave", {}, "")]


@pytest.mark.parametrize(
    ("words", "sound", "verbs"),
    [
        (SORRY, None, [SPOKEN]),
        (None, "https://b/0.wav", [("Play", {}, "https://b/0.wav")]),
        (SORRY, "https://b/0.wav", [SPOKEN, ("Play", {}, "https://b/0.wav")]),
        (None, None, [("Pause", {"length": "2"}, "")]),
    ],
)
def test_holding(
    words: Words | None, sound: str | None, verbs: list[tuple[str, dict[str, str], str]]
) -> None:
    """Never an empty document: Twilio would ask again at once."""
    assert verbs_of(hold(words, sound)) == verbs


@pytest.mark.parametrize(
    ("to", "noun"),
    [
        ("+15550100", "Number"),
        ("sip:desk@host.example", "Sip"),
        ("sips:desk@host.example;transport=tls", "Sip"),
        ("client:ann_1", "Client"),
    ],
)
def test_forwarding(to: str, noun: str) -> None:
    root = ET.fromstring(forward(to, ACTION, SORRY))
    assert [verb.tag for verb in root] == ["Say", "Dial"]
    assert root[1].attrib == {"action": ACTION, "timeout": "30", "answerOnBridge": "true"}
    assert [(child.tag, child.text) for child in root[1]] == [(noun, to.removeprefix("client:"))]
    assert [verb.tag for verb in ET.fromstring(forward(to, ACTION))] == ["Dial"]


def test_voicemail() -> None:
    greeting = Words("Speak after the tone.")
    record = {
        "action": ACTION,
        "timeout": "5",
        "maxLength": "120",
        "finishOnKey": "#",
        "playBeep": "true",
    }
    message = [
        ("Say", {"language": "en-US"}, greeting.text),
        ("Record", record, ""),
        ("Hangup", {}, ""),
    ]
    assert verbs_of(take_message(greeting, ACTION)) == message
    assert verbs_of(take_message(greeting, ACTION, SORRY)) == [SPOKEN, *message]


def _is_allowed(text: str) -> bool:
    """Whether a setting may have these words."""
    try:
        return bool(values.words(text))
    except ValueError:
        return False


PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")


@given(st.text(PRINTABLE, min_size=1, max_size=500).filter(_is_allowed))
def test_any_words_are_said_as_they_are(text: str) -> None:
    words = Words(text, "en-GB")
    documents = [
        hang_up(words),
        redirect("https://b/x", words),
        hold(words, None),
        forward("+15550100", "https://b/x", words),
        take_message(words, "https://b/x", words),
    ]
    for document in documents:
        assert verbs_of(document)[0] == ("Say", {"language": "en-GB"}, text)
        assert len(document.encode()) <= 64 * 1024
