"""`.env.example` documents every setting, with its default, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.dev.settings import TunnelSettings, read_tunnel_settings
from personaplex_bridge.numbers.settings import AccountSettings, read_account_settings

EXAMPLE = Path(__file__).parents[1] / ".env.example"


class _Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return default


READERS: dict[Callable[[_Asked], object], type[Any]] = {
    read_settings: Settings,
    read_account_settings: AccountSettings,
    read_tunnel_settings: TunnelSettings,
}
"""Each reader of settings, and what it makes."""


def test_every_variable_is_documented() -> None:
    asked = _Asked()
    for read in READERS:
        read(asked)
    assert set(dotenv_values(EXAMPLE)) == asked.names


@pytest.mark.parametrize("read", READERS)
def test_every_setting_has_its_variable(read: Callable[[_Asked], object]) -> None:
    asked = _Asked()
    read(asked)
    assert len(asked.names) == len(dataclasses.fields(READERS[read]))


def test_the_values_are_the_defaults() -> None:
    values = {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}
    for read, made in READERS.items():
        assert read(values) == made()  # type: ignore[arg-type]
