"""What the images, compose and the units say must fit the project."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from personaplex_bridge.config import Settings
from personaplex_bridge.gate.application import STOP_TIMEOUT_S
from personaplex_bridge.gate.command import TERM_TIMEOUT_S

ROOT = Path(__file__).parents[2]
DOCKERFILES = ("Dockerfile", "Dockerfile.personaplex")


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Each instruction and its arguments, in order."""
    text = (ROOT / dockerfile).read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in lines]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_is_there_and_not_ignored(dockerfile: str) -> None:
    let_in = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    for name, rest in instructions(dockerfile):
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(Path(source).match(pattern) for pattern in let_in), source


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_it_ends_as_somebody_who_is_not_root(dockerfile: str) -> None:
    users = [rest for name, rest in instructions(dockerfile) if name == "USER"]
    assert users == ["10001:10001"]
    assert [name for name, _ in instructions(dockerfile)][-2:] == ["ENTRYPOINT", "CMD"]


def test_packages_are_locked_with_hashes() -> None:
    for dockerfile in DOCKERFILES:
        for name, rest in instructions(dockerfile):
            for part in rest.split("&&") if name == "RUN" else []:
                if "pip install" in part:
                    assert "--require-hashes" in part or "--no-deps" in part, part


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_health_check_is_python_that_compiles(dockerfile: str) -> None:
    [check] = [rest for name, rest in instructions(dockerfile) if name == "HEALTHCHECK"]
    command = yaml.safe_load(check.partition("CMD ")[2])
    assert command[-2] == "-c"
    compile(command[-1], "healthcheck", "exec")
    refused = subprocess.run(
        [sys.executable, "-c", command[-1].replace("8998", "1")],
        capture_output=True,
        timeout=20,
        check=False,
        env={"PORT": "1"},
    )
    assert refused.returncode == 1


def test_compose() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    model, bridge = services["personaplex"], services["bridge"]
    [device] = model["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert bridge["depends_on"]["personaplex"]["condition"] == "service_healthy"
    published = [service for service, said in services.items() if "ports" in said]
    assert published == ["caddy"]


def test_what_runs_comes_back_with_the_machine_and_has_time_to_stop() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    assert {said["restart"] for said in services.values()} == {"unless-stopped"}
    needs_s = STOP_TIMEOUT_S + TERM_TIMEOUT_S
    assert int(services["personaplex"]["stop_grace_period"].removesuffix("s")) > needs_s
    assert (
        int(services["bridge"]["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout_s
    )


def test_recordings_have_a_place_that_can_be_written_to() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
    bridge = compose["services"]["bridge"]
    folder = bridge["environment"]["RECORDINGS_FOLDER"]
    assert bridge["volumes"] == [f"recordings:{folder}"]
    assert "recordings" in compose["volumes"]
    made = [rest for name, rest in instructions("Dockerfile") if name == "RUN"]
    assert f"install -d -m 700 -o bridge -g bridge {folder}" in made[-1]
    unit = (ROOT / "deploy/systemd/personaplex-bridge.service").read_text("utf-8")
    assert "\nStateDirectory=personaplex-bridge\n" in unit
    assert "\nWorkingDirectory=%S/personaplex-bridge\n" in unit


def test_the_lock_of_the_models_image_is_what_the_server_asks_for() -> None:
    lock = dict(
        re.findall(
            r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements/personaplex.txt").read_text(), re.M
        )
    )
    assert lock["sphn"] == "0.1.12"
    assert lock["torch"].startswith("2.4.")
    assert lock["aiohttp"].startswith("3.10.")
