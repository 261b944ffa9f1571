"""A pod's description: the one file that says what is rented (deploy/runpod/pod.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.runpod import keys
from personaplex_bridge.runpod.answers import Cloud
from personaplex_bridge.runpod.keys import Table

MIN_MEMORY_GB = 24
"""The model takes 17 to 19 GB; cards come with 16, 20 or 24."""

Prefer: TypeAlias = Literal["order", "price"]


@dataclass(frozen=True, slots=True)
class PersistentVolume:
    """A volume on the pod's own host: survives a stop, dies with the pod."""

    size_gb: int
    path: str


@dataclass(frozen=True, slots=True)
class NetworkVolume:
    """A volume that survives the pod, and holds it to its data center."""

    volume_id: str
    path: str


@dataclass(frozen=True, slots=True)
class PodDescription:
    """What is rented. Every field has the name it has in the file."""

    name: str
    image: str
    types: tuple[str, ...]
    """GPU types, the most wanted first."""

    clouds: tuple[Cloud, ...] = ("SECURE",)
    prefer: Prefer = "order"
    max_price: float | None = None
    """USD an hour; None: any."""

    min_cuda: str | None = None
    data_centers: tuple[str, ...] = ()
    """Empty: any."""

    disk_gb: int = 20
    volume: PersistentVolume | NetworkVolume | None = None
    ports: tuple[str, ...] = ("8998/http",)
    registry: str | None = None
    """Id of RunPod's credential for a private image."""

    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    def request(self, gpu_id: str, cloud: Cloud, data_centers: tuple[str, ...]) -> dict[str, Any]:
        """The body of `POST /v2/pods` for one GPU type in one cloud."""
        gpu: dict[str, Any] = {"id": gpu_id, "count": 1}
        if self.min_cuda:
            gpu["minCudaVersion"] = self.min_cuda
        body: dict[str, Any] = {
            "name": self.name,
            "image": self.image,
            "cloud": cloud,
            "gpu": gpu,
            "disk": self.disk_gb,
            "ports": list(self.ports),
            "env": dict(self.env),
        }
        match self.volume:
            case PersistentVolume(size_gb, path):
                body["mounts"] = {"persistent": {"size": size_gb, "path": path}}
            case NetworkVolume(volume_id, path):
                body["mounts"] = {"network": [{"volumeId": volume_id, "path": path}]}
        if self.registry:
            body["registry"] = self.registry
        if data_centers:
            body["dataCenterIds"] = list(data_centers)
        return body


def read_description(path: Path, **overrides: str | None) -> PodDescription:
    """The description in a file; `name` and `image` of `overrides` win, unless they are None.

    Raises:
        ConfigError: it can't be read, or names every key that is unknown or wrong.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    return parse_description({**_document(path), **given}, path.name)


def read_name(path: Path) -> str:
    """The pod's name alone: commands that make nothing need no more, however the rest is.

    Raises:
        ConfigError: it can't be read, or has no usable name.
    """
    top = Table(_document(path), f"{path.name}: ", [])
    name = top.get("name", keys.name)
    if top.wrong:
        raise ConfigError(*top.wrong)
    return name


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(WrongValue("--pod", str(path), f"can't be read: {why}")) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(WrongValue("--pod", str(path), f"no TOML: {error}")) from error


def parse_description(document: Mapping[str, Any], source: str) -> PodDescription:
    """The description in a TOML document; `source` is named in errors.

    Raises:
        ConfigError: names every key that is unknown or wrong.
    """
    top = Table(document, f"{source}: ", [])
    gpu, storage = top.table("gpu"), top.table("storage")
    description = PodDescription(
        name=top.get("name", keys.name),
        image=top.get("image", keys.image),
        types=gpu.get("types", keys.texts(1)),
        clouds=gpu.get("clouds", keys.clouds, ("SECURE",)),
        prefer=cast("Prefer", gpu.get("prefer", keys.one_of("order", "price"), "order")),
        max_price=gpu.get("max_price", keys.price, None),
        min_cuda=gpu.get("min_cuda", keys.optional(keys.version), None),
        data_centers=gpu.get("data_centers", keys.texts(0), ()),
        disk_gb=storage.get("disk_gb", keys.whole(1, 10_000), 20),
        volume=_volume(storage),
        ports=top.get("ports", keys.ports, ("8998/http",)),
        registry=top.get("registry", keys.optional(keys.text), None),
        env=top.get("env", keys.env, {}),
    )
    for table in (top, gpu, storage):
        table.refuse_unknown()
    if top.wrong:
        raise ConfigError(*top.wrong)
    return description


def _volume(storage: Table) -> PersistentVolume | NetworkVolume | None:
    both = storage.has("persistent") and storage.has("network")
    persistent, network = storage.table("persistent"), storage.table("network")
    volume: PersistentVolume | NetworkVolume | None = None
    if both:
        allowed = "one of persistent and network, not both"
        storage.wrong.append(WrongValue(storage.name, "persistent, network", allowed))
    elif storage.has("persistent"):
        size = persistent.get("size_gb", keys.whole(10, 100_000))
        volume = PersistentVolume(size, persistent.get("path", keys.path))
        persistent.refuse_unknown()
    elif storage.has("network"):
        volume = NetworkVolume(network.get("volume_id", keys.text), network.get("path", keys.path))
        network.refuse_unknown()
    return volume
