"""The TwiML that answers a call, read back by an XML parser."""

import xml.etree.ElementTree as ET

import pytest

from personaplex_bridge.twilio.twiml import (
    MAX_PARAMETER_CHARS,
    connect_stream,
    fits_parameter,
    reject_busy,
)

URL = "wss://bridge.example/voice/stream"


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
