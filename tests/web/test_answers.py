"""What a call is answered with: any words, any role, any address give TwiML that Twilio takes."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge import values
from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.config import FALLBACKS, WHEN_BUSY, Settings
from personaplex_bridge.personas import Choice, choose, load_catalogue
from personaplex_bridge.simulator.obey import read_twiml
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.answers import Answers
from personaplex_bridge.web.tickets import TOKEN_PARAMETER, Tickets

PUBLIC = "https://bridge.example"
CATALOGUE = load_catalogue()
SETTINGS = Settings(public_urls=(PUBLIC,), forward_to="+15550199")
REQUEST = make_mocked_request("POST", "/voice/inbound?persona=noir")


def answers(**changes: Any) -> Answers:
    settings = dataclasses.replace(SETTINGS, **changes)
    return Answers(settings, Access(settings, SYSTEM_CLOCK), None)


def asked_for(**asked: str) -> Choice:
    return choose(CATALOGUE, "assistant", asked)


def text_of(response: web.Response) -> str:
    assert response.content_type == "text/xml"
    assert response.text is not None
    return response.text


def urls_of(document: str) -> list[str]:
    """Every URL of a document that Twilio will ask for."""
    urls = []
    for element in ET.fromstring(document).iter():
        urls += [
            element.get(name, "") for name in ("action", "waitUrl", "url") if element.get(name)
        ]
        if element.tag in ("Play", "Redirect"):
            urls.append(element.text or "")
    return urls


def _is_usable(text: str) -> bool:
    try:
        return bool(values.words(text))
    except ValueError:
        return False


printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
words = st.text(printable, min_size=1, max_size=500).filter(_is_usable)


@given(words, words, st.sampled_from(WHEN_BUSY), st.sampled_from(FALLBACKS))
def test_any_words_make_documents_that_twilio_takes(
    said: str, greeting: str, when_busy: Any, fallback: Any
) -> None:
    spoken = answers(
        when_busy=when_busy,
        fallback=fallback,
        busy_words=said,
        sorry_words=said,
        again_words=said,
        voicemail_words=greeting,
    )
    for response in (
        spoken.busy(REQUEST, asked_for(), "ringing"),
        spoken.failed(REQUEST),
        spoken.unanswered(REQUEST),
        spoken.call_again(),
    ):
        assert read_twiml(text_of(response))
    assert read_twiml(text_of(spoken.tell_place(3)), waiting=True)


@given(st.dictionaries(st.sampled_from(["persona", "voice", "text_prompt"]), st.text(max_size=520)))
def test_any_role_survives_the_queue(asked: dict[str, str]) -> None:
    """It travels in the queue's URLs, and comes back the same."""
    choice = asked_for(**asked)
    document = text_of(answers().busy(REQUEST, choice, "ringing"))
    assert len(read_twiml(document)) == 2
    wait_url, action = urls_of(document)[1], urls_of(document)[0]
    for url in (wait_url, action):
        assert url.isascii()
        assert len(url) < 8190
        again = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        assert asked_for(**again) == dataclasses.replace(choice, warnings=())


def test_urls_are_absolute_and_our_own() -> None:
    ours = answers(fallback="forward")
    documents = [
        ours.connect(REQUEST, "CA1", asked_for()),
        ours.busy(REQUEST, asked_for(), "ringing"),
        ours.failed(REQUEST),
        answers(fallback="voicemail").failed(REQUEST),
        ours.play_piece(REQUEST, 3),
    ]
    urls = [url for response in documents for url in urls_of(text_of(response))]
    assert {urlsplit(url).netloc for url in urls} == {"bridge.example"}
    assert [urlsplit(url).path for url in urls] == [
        "/voice/after",
        "/voice/stream",
        "/voice/queued",
        "/voice/wait",
        "/voice/forwarded",
        "/voice/recorded",
        "/voice/hold/3.wav",
    ]


def test_the_place_is_said_where_the_words_want_it() -> None:
    said = text_of(answers(busy_words="{position}! {place} {position}").tell_place(12))
    assert ">12! {place} 12<" in said
    assert 'language="de-DE"' in text_of(answers(say_language="de-DE").tell_place(1))


def test_a_stream_has_a_token_of_its_own_after_the_queue_too() -> None:
    tickets = Tickets(SYSTEM_CLOCK)
    ours = Answers(SETTINGS, Access(SETTINGS, SYSTEM_CLOCK), tickets)
    choice = asked_for(persona="noir")
    tokens = []
    for _ in range(2):
        root = ET.fromstring(text_of(ours.connect(REQUEST, "CA1", choice)))
        parameters = {p.attrib["name"]: p.attrib["value"] for p in root.iter("Parameter")}
        tokens.append(parameters.pop(TOKEN_PARAMETER))
        assert parameters == {"persona": "noir"}
    assert tokens[0] != tokens[1]
    tickets.redeem(tokens[1], "CA1", choice.parameters)


@pytest.mark.parametrize(
    ("drain_to", "url"), [(None, None), ("https://b.example", "https://b.example/voice/inbound")]
)
def test_elsewhere(drain_to: str | None, url: str | None) -> None:
    document = text_of(answers(drain_to=drain_to).elsewhere(REQUEST, asked_for(persona="noir")))
    verbs = [verb.tag for verb in ET.fromstring(document)]
    if url is None:
        assert verbs == ["Say", "Hangup"]
    else:
        assert verbs == ["Redirect"]
        assert urls_of(document) == [f"{url}?persona=noir&sent-on=yes"]


def test_nobody_is_sent_round_in_a_circle() -> None:
    sent_on = make_mocked_request("POST", "/voice/inbound?persona=noir&sent-on=yes")
    document = text_of(answers(drain_to="https://b.example").elsewhere(sent_on, asked_for()))
    assert SETTINGS.again_words in document
    assert urls_of(document) == []
