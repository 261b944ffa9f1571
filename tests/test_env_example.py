"""`.env.example` documents every setting, with its default, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.dev.settings import TunnelSettings, read_tunnel_settings
from personaplex_bridge.errors import ConfigError
from personaplex_bridge.gate.settings import GateSettings, read_gate_settings
from personaplex_bridge.numbers.settings import AccountSettings, read_account_settings
from personaplex_bridge.phone.softphone import SoftphoneSettings, read_softphone_settings
from personaplex_bridge.runpod.settings import RunPodSettings, read_runpod_settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"

TOKEN = "0123456789abcdef"
"""The one setting without a default: a gate that asks nobody for it doesn't start."""


class _Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return default


READERS: dict[Callable[[Mapping[str, str]], object], Any] = {
    read_settings: Settings(),
    read_account_settings: AccountSettings(),
    read_tunnel_settings: TunnelSettings(),
    read_runpod_settings: RunPodSettings(),
    read_softphone_settings: SoftphoneSettings(),
    read_gate_settings: GateSettings(tokens=(TOKEN,)),
}
"""Each reader of settings, and what it makes of the defaults."""


def asked_by(read: Callable[[Mapping[str, str]], object]) -> set[str]:
    """The variables that a reader looks at."""
    asked = _Asked()
    with suppress(ConfigError):  # the gate's: it wants a token
        read(asked)
    return asked.names


def test_every_variable_is_documented() -> None:
    documented = set(dotenv_values(EXAMPLE))
    assert documented == set().union(*map(asked_by, READERS))


@pytest.mark.parametrize("read", READERS)
def test_every_setting_has_its_variable(read: Callable[[Mapping[str, str]], object]) -> None:
    assert len(asked_by(read)) == len(dataclasses.fields(READERS[read]))


@pytest.mark.parametrize("read", READERS)
def test_the_values_are_the_defaults(read: Callable[[Mapping[str, str]], object]) -> None:
    values = {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}
    assert read({**values, "GATE_TOKEN": TOKEN}) == READERS[read]


def test_no_variable_is_there_twice() -> None:
    named = re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(set(named))
