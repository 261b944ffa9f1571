"""A gate's settings out of the environment."""

from __future__ import annotations

import pytest

from personaplex_bridge.errors import ConfigError
from personaplex_bridge.gate.settings import GateSettings, read_gate_settings

TOKEN = "0123456789abcdef"


def test_defaults() -> None:
    assert read_gate_settings({"GATE_TOKEN": TOKEN}) == GateSettings(tokens=(TOKEN,))
    several = read_gate_settings({"GATE_TOKEN": f"{TOKEN}, {TOKEN}x"})
    assert several.tokens == (TOKEN, f"{TOKEN}x")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    assert read_gate_settings({"GATE_HOST": host}).tokens == ()


def test_anyone_may_be_let_in_on_purpose() -> None:
    assert read_gate_settings({"GATE_ALLOW_ANYONE": "yes"}).tokens == ()


@pytest.mark.parametrize("path", ["", "/", "/api/chat", "/api/chat/"])
def test_the_models_address_in_all_forms(path: str) -> None:
    environ = {"GATE_TOKEN": TOKEN, "GATE_MODEL_URL": f"http://model:8999{path}"}
    assert read_gate_settings(environ).model_url == "http://model:8999"


IDLE = {"GATE_TOKEN": TOKEN, "IDLE_STOP_MINUTES": "15"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "GATE_TOKEN='' is not allowed: a token of at least 16 characters"),
        ({"GATE_HOST": "10.0.0.1"}, "anyone who reaches 10.0.0.1"),
        ({"GATE_TOKEN": "short"}, "at least 16 ASCII characters"),
        ({"GATE_TOKEN": f"{TOKEN},short"}, "at least 16 ASCII characters"),
        ({"GATE_TOKEN": f"{TOKEN},"}, "at least 16 ASCII characters"),
        ({"GATE_TOKEN": TOKEN + "\u00fc"}, "ASCII"),
        (
            {"GATE_TOKEN": "{{ RUNPOD_SECRET_GATE_TOKEN }}"},
            "it asks for the RunPod secret GATE_TOKEN, which doesn't exist",
        ),
        ({"GATE_TOKEN": TOKEN, "GATE_PORT": "x"}, "GATE_PORT='x'"),
        ({"GATE_TOKEN": TOKEN, "GATE_MODEL_URL": "ws://x"}, "http:// or https://"),
        ({"GATE_TOKEN": TOKEN, "GATE_MODEL_URL": "http://x/?y"}, "without a query"),
        ({"GATE_TOKEN": TOKEN, "GATE_VOICES_DIR": "/no/such"}, "a folder that exists"),
        ({"GATE_TOKEN": TOKEN, "GATE_HANDSHAKE_TIMEOUT": "0"}, "seconds from 0.1 to 3600"),
        ({**IDLE, "RUNPOD_POD_ID": "p"}, "with RUNPOD_API_KEY only"),
        ({**IDLE, "RUNPOD_API_KEY": "k"}, "with RUNPOD_POD_ID only"),
        ({**IDLE, "IDLE_STOP_MINUTES": "soon"}, "minutes from 0.01"),
        (
            {**IDLE, "RUNPOD_POD_ID": "p", "RUNPOD_API_KEY": "{{ RUNPOD_SECRET_KEY }}"},
            "the RunPod secret KEY, which doesn't exist",
        ),
    ],
)
def test_what_is_refused(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_gate_settings(environ)
    assert words in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert len(refused.value.wrong) == 1


def test_an_idle_stop_that_can_be() -> None:
    settings = read_gate_settings({**IDLE, "RUNPOD_POD_ID": "p", "RUNPOD_API_KEY": "k"})
    assert settings.idle_stop_minutes == 15
