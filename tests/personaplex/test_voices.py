"""Voices, prompts and the URL that carries them."""

from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import PersonaError
from personaplex_bridge.personaplex.voices import MAX_ENCODED_PROMPT_BYTES, VOICES, Role, chat_url

# fmt: off
EIGHTEEN = {
    "NATF0", "NATF1", "NATF2", "NATF3", "NATM0", "NATM1", "NATM2", "NATM3",
    "VARF0", "VARF1", "VARF2", "VARF3", "VARF4", "VARM0", "VARM1", "VARM2", "VARM3", "VARM4",
}
# fmt: on
PROMPT = "You enjoy having a good conversation."
SERVER = "wss://gpu.example:8998/api/chat"


def test_all_eighteen_voices() -> None:
    assert VOICES == EIGHTEEN
    assert {Role(voice, PROMPT).voice for voice in EIGHTEEN} == EIGHTEEN


@pytest.mark.parametrize(
    "voice",
    [
        "",
        "natf0",
        "NATF4",
        "VARM5",
        "NATF0.pt",
        " NATF0",
        "NATF0\n",
        "../NATF0",
        "NATX0",
        "x" * 999,
    ],
)
def test_an_unknown_voice_is_refused(voice: str) -> None:
    with pytest.raises(PersonaError, match="NATF0, NATF1") as caught:
        Role(voice, PROMPT)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("prompt", ["", " ", "\n\t\u00a0"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(PersonaError, match="empty"):
        Role("NATF0", prompt)


@pytest.mark.parametrize(
    ("char", "encoded"), [("a", 1), (" ", 1), ("&", 3), ("é", 6), ("€", 9), ("😀", 12)]
)
def test_a_prompts_length_counts_as_it_travels(char: str, encoded: int) -> None:
    whole, rest = divmod(MAX_ENCODED_PROMPT_BYTES - 1, encoded)
    longest = "x" + char * whole + "x" * rest
    assert len(quote_plus(longest)) == MAX_ENCODED_PROMPT_BYTES
    assert Role("NATF0", longest).text_prompt == longest
    with pytest.raises(PersonaError, match="8001 bytes") as caught:
        Role("NATF0", longest + "x")
    assert char * 5 not in str(caught.value)


def test_the_longest_request_line_fits() -> None:
    """Lines up to about 8,190 bytes were seen to pass."""
    parts = urlsplit(chat_url(SERVER, Role("NATF0", "x" * MAX_ENCODED_PROMPT_BYTES)))
    assert len(f"GET {parts.path}?{parts.query} HTTP/1.1\r\n") < 8190


CONTROL_CHARACTERS = [*map(chr, range(32)), "\ufffe", "\uffff"]
prompts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL_CHARACTERS),
    min_size=1,
    max_size=200,
).filter(lambda prompt: bool(prompt.strip()))


@pytest.mark.parametrize("char", ["\x00", "\x08", "\x1b", "\ufffe", "\ud800"])
def test_what_xml_can_not_carry_is_refused(char: str) -> None:
    with pytest.raises(PersonaError, match="control character"):
        Role("NATF0", f"You are{char}x.")


@given(st.sampled_from(sorted(EIGHTEEN)), prompts)
def test_chat_url_round_trip(voice: str, prompt: str) -> None:
    url = chat_url(SERVER, Role(voice, prompt))
    assert url.isascii()
    assert not any(map(str.isspace, url))
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == SERVER
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    assert query == {"voice_prompt": [f"{voice}.pt"], "text_prompt": [prompt]}
