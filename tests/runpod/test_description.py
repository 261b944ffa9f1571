"""The pod's description: what ships, and every way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from personaplex_bridge.errors import ConfigError
from personaplex_bridge.runpod.description import (
    NetworkVolume,
    PersistentVolume,
    read_description,
    read_name,
)
from tests.runpod.harness import RTX_4090, described

SHIPPED = Path(__file__).parents[2] / "deploy" / "runpod" / "pod.toml"


def test_the_one_that_ships_lacks_an_image_only() -> None:
    with pytest.raises(ConfigError) as caught:
        read_description(SHIPPED)
    assert [wrong.variable for wrong in caught.value.wrong] == ["pod.toml: image"]
    assert "./scripts/image push personaplex" in str(caught.value)
    assert read_name(SHIPPED) == "personaplex"
    description = read_description(SHIPPED, image="ghcr.io/you/personaplex:0.1", name="other")
    assert description.name == "other"
    assert description.types[0] == RTX_4090
    assert not any(
        gpu.split()[-1] == "L4" or "50" in gpu.split()[-1][:2] for gpu in description.types
    )
    assert isinstance(description.volume, PersistentVolume)
    assert description.port == 8998
    assert description.env["IDLE_STOP_MINUTES"] == "30"


def test_no_secret_stands_in_a_request() -> None:
    description = read_description(SHIPPED, image="ghcr.io/you/personaplex:0.1")
    env = description.request(RTX_4090, "SECURE", ())["env"]
    for name in ("HF_TOKEN", "GATE_TOKEN", "RUNPOD_API_KEY"):
        assert env[name].startswith("{{ RUNPOD_SECRET_")


def test_a_request() -> None:
    network = {"network": {"volume_id": "vol1", "path": "/workspace"}}
    description = described(
        gpu={"min_cuda": "12.1", "data_centers": ["EU-RO-1"]},
        storage=network | {"disk_gb": 25},
        registry="reg1",
    )
    assert description.volume == NetworkVolume("vol1", "/workspace")
    request = description.request(RTX_4090, "COMMUNITY", ("EU-RO-1",))
    assert request == {
        "name": "mine",
        "image": "ghcr.io/you/personaplex:1",
        "cloud": "COMMUNITY",
        "gpu": {"id": RTX_4090, "count": 1, "minCudaVersion": "12.1"},
        "disk": 25,
        "ports": ["8998/http"],
        "env": {"GATE_TOKEN": "{{ RUNPOD_SECRET_PERSONAPLEX_TOKEN }}"},
        "mounts": {"network": [{"volumeId": "vol1", "path": "/workspace"}]},
        "registry": "reg1",
        "dataCenterIds": ["EU-RO-1"],
    }
    assert json.loads(json.dumps(request)) == request


@pytest.mark.parametrize(
    ("changes", "variable", "allowed"),
    [
        ({"nmae": "x"}, "pod.toml: nmae", "there are gpu, storage, name, image"),
        ({"gpu": {"type": "x"}}, "pod.toml: gpu.type", "there are types, clouds, prefer"),
        ({"storage": {"disk": 20}}, "pod.toml: storage.disk", "disk_gb"),
        ({"name": "a b"}, "pod.toml: name", "letters, digits"),
        ({"name": 3}, "pod.toml: name", "letters, digits"),
        ({"image": "Ghcr.io/x:1"}, "pod.toml: image", "lower case"),
        ({"image": "ghcr.io/x"}, "pod.toml: image", "with its tag"),
        ({"gpu": {"types": []}}, "pod.toml: gpu.types", "one or more"),
        ({"gpu": {"types": ["a", "a"]}}, "pod.toml: gpu.types", "each once"),
        ({"gpu": {"types": "a"}}, "pod.toml: gpu.types", "a list"),
        ({"gpu": {"clouds": ["ANY"]}}, "pod.toml: gpu.clouds", '"SECURE", "COMMUNITY"'),
        ({"gpu": {"prefer": "speed"}}, "pod.toml: gpu.prefer", "one of order, price"),
        ({"gpu": {"max_price": 0}}, "pod.toml: gpu.max_price", "USD an hour"),
        ({"gpu": {"max_price": True}}, "pod.toml: gpu.max_price", "USD an hour"),
        ({"gpu": {"min_cuda": 12.1}}, "pod.toml: gpu.min_cuda", '"12.1"'),
        ({"gpu": "4090"}, "pod.toml: gpu", "a table"),
        ({"storage": {"disk_gb": 0}}, "pod.toml: storage.disk_gb", "from 1 to"),
        (
            {"storage": {"persistent": {"size_gb": 9, "path": "/w"}}},
            "pod.toml: storage.persistent.size_gb",
            "from 10 to",
        ),
        (
            {"storage": {"persistent": {"size_gb": 40, "path": "w"}}},
            "pod.toml: storage.persistent.path",
            "absolute",
        ),
        ({"storage": {"network": {"path": "/w"}}}, "pod.toml: storage.network.volume_id", "text"),
        (
            {
                "storage": {
                    "network": {"volume_id": "v", "path": "/w"},
                    "persistent": {"size_gb": 40, "path": "/w"},
                }
            },
            "pod.toml: storage",
            "not both",
        ),
        ({"ports": ["8998"]}, "pod.toml: ports", "PORT/http"),
        ({"ports": ["22/tcp"]}, "pod.toml: ports", "one HTTP port"),
        ({"ports": ["8998/http", "8999/http"]}, "pod.toml: ports", "lets everybody in"),
        ({"env": {"PORT": 3}}, "pod.toml: env", "numbers need quotes"),
        ({"env": {"HF_TOKEN": "hf_abc"}}, "pod.toml: env", "RUNPOD_SECRET_HF_TOKEN"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    changes: dict[str, Any], variable: str, allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        described(**changes)
    (wrong,) = caught.value.wrong
    assert wrong.variable == variable
    assert allowed in wrong.allowed
    assert "hf_abc" not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        described(name="", image="", gpu={"types": [], "x": 1})
    assert len(caught.value.wrong) == 4


@pytest.mark.parametrize("text", [b"name = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pod.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="--pod"):
        read_description(path)
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read_description(tmp_path / "none.toml")
