"""The persona catalogue."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from personaplex_bridge.errors import PersonaError
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import (
    Catalogue,
    Persona,
    choose,
    load_catalogue,
    parse_catalogue,
)
from personaplex_bridge.twilio.twiml import MAX_PARAMETER_CHARS

PROMPT = "You enjoy having a good conversation."


def persona(name: str, voice: str = "NATF0") -> Persona:
    return Persona(name, Role(voice, f"{PROMPT} You are {name}."))


# The catalogue that comes with the package

PROMISED = [
    *("assistant", "interpreter", "commentator", "distracted", "noir"),
    *("pro-consultant", "strategist", "entertainer", "head-coach", "sports-insider"),
    "support-example",
]


def test_the_shipped_catalogue_has_what_is_promised() -> None:
    catalogue = load_catalogue()
    assert sorted(catalogue.personas) == sorted(PROMISED)
    assert catalogue.numbers == {}


@pytest.mark.parametrize("name", PROMISED)
def test_a_shipped_persona(name: str) -> None:
    found = load_catalogue().get(name)
    assert found.name == name
    assert found.description
    assert found.experimental is (name == "interpreter")
    assert ("experimental" in found.description) is found.experimental
    assert "\n" not in found.role.text_prompt
    assert "  " not in found.role.text_prompt


def test_the_default_is_what_the_model_was_trained_on() -> None:
    assert load_catalogue().get("assistant").role.text_prompt == (
        "You are a wise and friendly teacher. "
        "Answer questions or provide advice in a clear and engaging way."
    )


def test_the_customer_service_example_has_the_trained_form() -> None:
    prompt = load_catalogue().get("support-example").role.text_prompt
    assert re.match(
        r"You work for <\w+> which is a <\w+> and your name is <\w+>\. Information: ", prompt
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(PersonaError, match=r"no persona 'nior'; there are: .*, noir, "):
        load_catalogue().get("nior")


# Catalogue files


def test_a_file_adds_replaces_and_chooses_by_number(tmp_path: Path) -> None:
    path = tmp_path / "personas.toml"
    path.write_text(
        """
        [numbers]
        "+15550100" = "mine"
        "+15550101" = "assistant"

        [personas.mine]
        voice = "VARM4"
        text_prompt = \"\"\"
        You are
            Zoë.
        \"\"\"

        [personas.noir]
        voice = "NATF3"
        text_prompt = "Hard-boiled."
        experimental = true
        description = "Another one"
        """,
        "utf-8",
    )
    catalogue = load_catalogue(path)
    assert catalogue.get("mine") == Persona("mine", Role("VARM4", "You are Zoë."))
    noir = Persona("noir", Role("NATF3", "Hard-boiled."), "Another one", experimental=True)
    assert catalogue.get("noir") == noir
    assert catalogue.numbers == {"+15550100": "mine", "+15550101": "assistant"}
    assert sorted(catalogue.personas) == sorted([*PROMISED, "mine"])


GOOD_TABLE = f'[personas.mine]\nvoice = "NATF0"\ntext_prompt = "{PROMPT}"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[personas", "at end of document"),
        ("persona = 1", "unknown table 'persona'; there are personas, numbers"),
        ("personas = 1", "personas must be a table"),
        ("numbers = []", "numbers must be a table"),
        ("[personas]\nmine = 1", "persona 'mine' must be a table"),
        (GOOD_TABLE + 'voise = "NATF1"', "persona 'mine': unknown field 'voise'; there are"),
        (GOOD_TABLE + "experimental = 1", "persona 'mine': experimental must be true or false"),
        (GOOD_TABLE + "description = 1", "persona 'mine': description must be a string"),
        ("[personas.mine]", "persona 'mine': voice must be a string"),
        ('[personas.mine]\nvoice = "NATF0"', "persona 'mine': text_prompt must be a string"),
        (GOOD_TABLE.replace("NATF0", "NATF9"), "persona 'mine': voice 'NATF9' is not one of"),
        (GOOD_TABLE.replace(PROMPT, " "), "persona 'mine': text_prompt is empty"),
        (GOOD_TABLE.replace(PROMPT, "x" * 8001), "persona 'mine': text_prompt takes 8001 bytes"),
        ("[numbers]\n15550100 = 1", "[numbers] '15550100' must name a persona"),
    ],
    ids=lambda value: value[:40],
)
def test_a_bad_file_is_named_with_the_place(text: str, complaint: str) -> None:
    with pytest.raises(PersonaError, match=re.escape(complaint)) as caught:
        parse_catalogue(text, "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")


def test_a_number_of_a_persona_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "personas.toml"
    path.write_text('[numbers]\n"+15550100" = "nobody"')
    with pytest.raises(PersonaError, match=r"'\+15550100': there is no persona 'nobody'"):
        load_catalogue(path)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(PersonaError, match=re.escape(f"can't read {tmp_path}")):
        load_catalogue(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'description = "d\xe9j\xe0"')
    with pytest.raises(PersonaError, match=re.escape(f"can't read {latin}")):
        load_catalogue(latin)


# Choosing

CATALOGUE = Catalogue(
    {name: persona(name) for name in ("usual", "asked", "numbered")}, {"+1": "numbered"}
)


@pytest.mark.parametrize(
    ("asked", "called", "chosen"),
    [
        ({}, "", "usual"),
        ({}, "+2", "usual"),
        ({}, "+1", "numbered"),
        ({"persona": "asked"}, "", "asked"),
        ({"persona": "asked"}, "+1", "asked"),
        ({"persona": ""}, "+1", "numbered"),
        ({"other": "thing"}, "", "usual"),
    ],
)
def test_precedence(asked: Mapping[str, str], called: str, chosen: str) -> None:
    choice = choose(CATALOGUE, "usual", asked, called)
    assert choice.persona == chosen
    assert choice.role == CATALOGUE.get(chosen).role
    assert choice.parameters == {"persona": chosen}
    assert choice.warnings == ()


def test_voice_and_prompt_of_ones_own() -> None:
    asked = {"persona": "asked", "voice": "VARM0", "text_prompt": "You are a poet."}
    choice = choose(CATALOGUE, "usual", asked)
    assert choice.role == Role("VARM0", "You are a poet.")
    assert choice.parameters == asked
    assert choice.warnings == ()


SECRET = "my secret instructions"


@pytest.mark.parametrize(
    ("asked", "called", "chosen", "warning"),
    [
        ({"persona": "nobody"}, "", "usual", "no persona 'nobody'"),
        # What was asked for was wrong, so nobody knows that the number's would be right.
        ({"persona": "nobody"}, "+1", "usual", "no persona 'nobody'"),
        ({"persona": "asked", "voice": "NATF9"}, "", "asked", "voice 'NATF9'"),
        ({"voice": ""}, "", "usual", "voice ''"),
        ({"text_prompt": ""}, "", "usual", "empty"),
        ({"text_prompt": SECRET + "x" * MAX_PARAMETER_CHARS}, "", "usual", "522 characters"),
        ({"text_prompt": SECRET + "€" * 950}, "+1", "numbered", "972 characters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_can_not_be_had_is_replaced_with_a_warning(
    asked: Mapping[str, str], called: str, chosen: str, warning: str
) -> None:
    choice = choose(CATALOGUE, "usual", asked, called)
    assert choice.persona == chosen
    assert choice.role == CATALOGUE.get(chosen).role
    assert choice.parameters == {"persona": chosen}
    (told,) = choice.warnings
    assert warning in told
    assert SECRET not in told


def test_one_wrong_wish_does_not_spoil_the_others() -> None:
    asked = {"persona": "nobody", "voice": "NATF9", "text_prompt": SECRET}
    choice = choose(CATALOGUE, "usual", asked)
    assert choice.role == Role("NATF0", SECRET)
    assert choice.parameters == {"persona": "usual", "text_prompt": SECRET}
    assert len(choice.warnings) == 2
    assert SECRET not in "".join(choice.warnings)


def test_what_was_chosen_in_the_webhook_is_chosen_again_on_the_stream() -> None:
    asked = {"persona": "nobody", "voice": "VARF4", "text_prompt": "You are a poet."}
    webhook = choose(CATALOGUE, "usual", asked, "+1")
    stream = choose(CATALOGUE, "usual", webhook.parameters)
    assert stream.role == webhook.role
    assert stream.warnings == ()


def test_a_default_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(PersonaError, match="no persona 'nobody'"):
        choose(CATALOGUE, "nobody", {"persona": "asked"})
