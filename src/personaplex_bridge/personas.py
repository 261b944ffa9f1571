"""The persona catalogue: who the model is to be, by name or by the number that was called."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from personaplex_bridge.errors import PersonaError
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.twilio.twiml import fits_parameter

MAX_NAME_CHARS = 100
"""A name must travel in a `<Parameter>`."""

_PERSONA_FIELDS = {"voice", "text_prompt", "description", "experimental"}


@dataclass(frozen=True, slots=True)
class Persona:
    """A named role. `experimental` ones ask for what the released model was not trained for."""

    name: str
    role: Role
    description: str = ""
    experimental: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Personas by name, and persona names by called number (E.164)."""

    personas: Mapping[str, Persona]
    numbers: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Persona:
        """The persona called `name`.

        Raises:
            PersonaError: there is none.
        """
        try:
            return self.personas[name]
        except KeyError:
            known = ", ".join(sorted(self.personas))
            raise PersonaError(f"no persona {name[:24]!r}; there are: {known}") from None

    def extended(self, other: Catalogue) -> Catalogue:
        """The same catalogue with `other`'s entries added; `other` wins where both have one."""
        return Catalogue({**self.personas, **other.personas}, {**self.numbers, **other.numbers})


def load_catalogue(personas_file: Path | None = None) -> Catalogue:
    """The package's personas, extended by `personas_file`.

    Raises:
        PersonaError: the file can't be read, or an entry is not usable; says which.
    """
    text = resources.files("personaplex_bridge").joinpath("personas.toml").read_text("utf-8")
    catalogue = parse_catalogue(text, "personas.toml")
    if personas_file is not None:
        try:
            text = personas_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PersonaError(f"can't read {personas_file}: {error}") from error
        catalogue = catalogue.extended(parse_catalogue(text, str(personas_file)))
    for number, name in catalogue.numbers.items():
        if name not in catalogue.personas:
            raise PersonaError(f"[numbers] {number!r}: there is no persona {name!r}")
    return catalogue


def parse_catalogue(text: str, source: str) -> Catalogue:
    """The catalogue in a TOML text; `source` is named in errors.

    Raises:
        PersonaError: it is no TOML, or an entry is not usable.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PersonaError(f"{source}: {error}") from error
    unknown = set(document) - {"personas", "numbers"}
    if unknown:
        raise PersonaError(f"{source}: unknown table {min(unknown)!r}; there are personas, numbers")
    personas = {
        name: _parse_persona(name, table, source)
        for name, table in _table(document, "personas", source).items()
    }
    numbers = _table(document, "numbers", source)
    for number, name in numbers.items():
        if not isinstance(name, str):
            raise PersonaError(f"{source}: [numbers] {number!r} must name a persona")
    return Catalogue(personas, numbers)


def _parse_persona(name: str, table: object, source: str) -> Persona:
    where = f"{source}: persona {name[:MAX_NAME_CHARS]!r}"
    if len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise PersonaError(f"{where}: a name has 1 to {MAX_NAME_CHARS} printable characters")
    if not isinstance(table, dict):
        raise PersonaError(f"{where} must be a table")
    unknown = set(table) - _PERSONA_FIELDS
    if unknown:
        fields = ", ".join(sorted(_PERSONA_FIELDS))
        raise PersonaError(f"{where}: unknown field {min(unknown)!r}; there are {fields}")
    experimental = table.get("experimental", False)
    if not isinstance(experimental, bool):
        raise PersonaError(f"{where}: experimental must be true or false")
    description = _text({"description": ""} | table, "description", where)
    voice = _text(table, "voice", where)
    prompt = _text(table, "text_prompt", where)
    try:
        # TOML's multi-line strings wrap for the reader; the model gets one line.
        role = Role(voice, " ".join(prompt.split()))
    except PersonaError as error:
        raise PersonaError(f"{where}: {error}") from None
    return Persona(name, role, description, experimental)


def _text(table: dict[str, Any], field_name: str, where: str) -> str:
    value = table.get(field_name)
    if not isinstance(value, str):
        raise PersonaError(f"{where}: {field_name} must be a string")
    return value


def _table(document: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise PersonaError(f"{source}: {name} must be a table")
    return table


@dataclass(frozen=True, slots=True)
class Choice:
    """The role chosen for one call, how to say so in `<Parameter>`s, and what was refused."""

    role: Role
    parameters: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def persona(self) -> str:
        """The name of the persona chosen."""
        return self.parameters["persona"]


def choose(
    catalogue: Catalogue, default: str, asked: Mapping[str, str], called: str = ""
) -> Choice:
    """The role for a call: what was asked for, else what its number says, else the default.

    `asked` may hold `persona`, `voice` and `text_prompt`, from the webhook's query or the
    stream's parameters; `called` is the number that was dialled. A caller is never turned away
    for a wrong one: it is replaced by the default, with a warning.

    Raises:
        PersonaError: there is no persona `default`.
    """
    warnings: list[str] = []
    persona = catalogue.get(default)
    try:
        persona = catalogue.get(asked.get("persona") or catalogue.numbers.get(called) or default)
    except PersonaError as error:
        warnings.append(str(error))
    role, parameters = persona.role, {"persona": persona.name}
    for name in ("voice", "text_prompt"):
        value = asked.get(name)
        if value is None:
            continue
        try:
            if not fits_parameter(name, value):
                raise PersonaError(f"{name} of {len(value)} characters can't travel to the stream")
            role = replace(role, **{name: value})
            parameters[name] = value
        except PersonaError as error:
            warnings.append(str(error))
    return Choice(role, parameters, tuple(warnings))
