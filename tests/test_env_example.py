"""`.env.example` documents every setting, with its default, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from dotenv import dotenv_values

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.errors import ConfigError
from personaplex_bridge.gate.settings import GateSettings, read_gate_settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"


class _Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return default


def test_every_variable_is_documented() -> None:
    asked = _Asked()
    read_settings(asked)
    assert len(asked.names) == len(dataclasses.fields(Settings))
    of_gate = _Asked()
    with pytest.raises(ConfigError, match="GATE_TOKEN"):  # it has no default
        read_gate_settings(of_gate)
    assert len(of_gate.names) == len(dataclasses.fields(GateSettings))
    assert set(dotenv_values(EXAMPLE)) == asked.names | of_gate.names


def test_the_values_are_the_defaults() -> None:
    values = {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}
    assert read_settings(values) == Settings()
    token = "0123456789abcdef"
    of_gate = read_gate_settings({**values, "GATE_TOKEN": token})
    assert of_gate == GateSettings(tokens=(token,))
