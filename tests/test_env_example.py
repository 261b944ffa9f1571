"""`.env.example` documents every setting, with its default, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dotenv import dotenv_values

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.runpod.settings import RunPodSettings, read_runpod_settings

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
    of_runpod = _Asked()
    read_runpod_settings(of_runpod)
    assert len(of_runpod.names) == len(dataclasses.fields(RunPodSettings))
    assert set(dotenv_values(EXAMPLE)) == asked.names | of_runpod.names


def test_the_values_are_the_defaults() -> None:
    values = {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}
    assert read_settings(values) == Settings()
    assert read_runpod_settings(values) == RunPodSettings()
