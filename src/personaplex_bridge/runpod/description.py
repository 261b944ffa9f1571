"""A pod's description: the one file that says what is rented (deploy/runpod/pod.toml)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, TypeVar, cast

from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.runpod.answers import Cloud

T = TypeVar("T")

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

    @property
    def port(self) -> int:
        """The gate's: the first HTTP port."""
        return next(int(port.partition("/")[0]) for port in self.ports if port.endswith("/http"))

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
    top = _Table(_document(path), f"{path.name}: ", [])
    name = top.get("name", _name)
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
    top = _Table(document, f"{source}: ", [])
    gpu, storage = top.table("gpu"), top.table("storage")
    description = PodDescription(
        name=top.get("name", _name),
        image=top.get("image", _image),
        types=gpu.get("types", _texts(1)),
        clouds=gpu.get("clouds", _clouds, ("SECURE",)),
        prefer=cast("Prefer", gpu.get("prefer", _one_of("order", "price"), "order")),
        max_price=gpu.get("max_price", _price, None),
        min_cuda=gpu.get("min_cuda", _optional(_version), None),
        data_centers=gpu.get("data_centers", _texts(0), ()),
        disk_gb=storage.get("disk_gb", _whole(1, 10_000), 20),
        volume=_volume(storage),
        ports=top.get("ports", _ports, ("8998/http",)),
        registry=top.get("registry", _optional(_text), None),
        env=top.get("env", _env, {}),
    )
    for table in (top, gpu, storage):
        table.refuse_unknown()
    if top.wrong:
        raise ConfigError(*top.wrong)
    return description


class _Table:
    """Reads a table key by key, and remembers what was wrong and what was asked for.

    `prefix` is what its keys are called by in errors: `pod.toml: ` or `pod.toml: gpu.`.
    """

    def __init__(self, table: object, prefix: str, wrong: list[WrongValue]) -> None:
        self.wrong = wrong
        self._prefix = prefix
        self._known: list[str] = []
        self._is_table = isinstance(table, dict)
        self._table: Mapping[str, Any] = table if isinstance(table, dict) else {}
        if not self._is_table:
            wrong.append(WrongValue(self.name, str(table)[:40], "a table"))

    @property
    def name(self) -> str:
        return self._prefix.rstrip(".")

    def table(self, name: str) -> _Table:
        """A table within this one; an empty one if it isn't there."""
        self._known.append(name)
        return _Table(self._table.get(name, {}), f"{self._prefix}{name}.", self.wrong)

    def has(self, name: str) -> bool:
        return name in self._table

    def get(self, name: str, parse: Callable[[Any], T], *default: T) -> T:
        """The parsed value. Without a default the key must be there."""
        self._known.append(name)
        if name not in self._table and (default or not self._is_table):
            return default[0] if default else cast("T", None)
        try:
            return parse(self._table.get(name))
        except ValueError as error:
            # What stands in `env` may be a secret that shouldn't be there.
            shown = "(hidden)" if name == "env" else str(self._table.get(name, ""))
            self.wrong.append(WrongValue(f"{self._prefix}{name}", shown, str(error)))
            return cast("T", None)

    def refuse_unknown(self) -> None:
        for name in sorted(self._table.keys() - set(self._known)):
            allowed, shown = f"there are {', '.join(self._known)}", str(self._table[name])[:40]
            self.wrong.append(WrongValue(f"{self._prefix}{name}", shown, allowed))


def _volume(storage: _Table) -> PersistentVolume | NetworkVolume | None:
    both = storage.has("persistent") and storage.has("network")
    persistent, network = storage.table("persistent"), storage.table("network")
    volume: PersistentVolume | NetworkVolume | None = None
    if both:
        allowed = "one of persistent and network, not both"
        storage.wrong.append(WrongValue(storage.name, "persistent, network", allowed))
    elif storage.has("persistent"):
        size = persistent.get("size_gb", _whole(10, 100_000))
        volume = PersistentVolume(size, persistent.get("path", _path))
        persistent.refuse_unknown()
    elif storage.has("network"):
        volume = NetworkVolume(network.get("volume_id", _text), network.get("path", _path))
        network.refuse_unknown()
    return volume


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("a text in one line, not empty")
    return value


def _optional(parse: Callable[[Any], str]) -> Callable[[Any], str | None]:
    return lambda value: None if value == "" else parse(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", value, re.ASCII):
        raise ValueError("a name of up to 63 letters, digits, dots and hyphens")
    return value


def _image(value: Any) -> str:
    # Upper case belongs into a tag only, so the file's own placeholder is refused too.
    pattern = r"[a-z0-9][a-z0-9._/-]*(:\d+[a-z0-9._/-]*)?(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})"
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(
            "an image with its tag, in lower case, such as ghcr.io/you/personaplex:1.0 (build and "
            "push yours with ./scripts/image push personaplex --to ghcr.io/you, see docs/runpod.md)"
        )
    return value


def _texts(least: int) -> Callable[[Any], tuple[str, ...]]:
    def parse(value: Any) -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or len(value) < least
            or len(set(map(str, value))) < len(value)
        ):
            raise ValueError(f"a list of {'one or more texts' if least else 'texts'}, each once")
        return tuple(_text(item) for item in value)

    return parse


def _clouds(value: Any) -> tuple[Cloud, ...]:
    allowed = {"SECURE", "COMMUNITY"}
    clouds = _texts(1)(value) if isinstance(value, list) else ()
    if not clouds or set(clouds) - allowed:
        raise ValueError('a list of "SECURE", "COMMUNITY" or both, the preferred one first')
    return cast("tuple[Cloud, ...]", clouds)


def _one_of(*words: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return parse


def _price(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise ValueError("USD an hour, above 0")
    return float(value)


def _version(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\d+\.\d+", value, re.ASCII):
        raise ValueError('a version such as "12.1"')
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _path(value: Any) -> str:
    path = PurePosixPath(value) if isinstance(value, str) else PurePosixPath()
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise ValueError("an absolute path within the container, such as /workspace")
    return str(path)


def _ports(value: Any) -> tuple[str, ...]:
    ports = _texts(1)(value)
    for port in ports:
        found = re.fullmatch(r"(\d{1,5})/(http|tcp)", port, re.ASCII)
        if found is None or not 1 <= int(found[1]) <= 65535:
            raise ValueError('a list such as ["8998/http"], each PORT/http or PORT/tcp')
    if not any(port.endswith("/http") for port in ports):
        raise ValueError("one HTTP port at least, which the gate is reached by: 8998/http")
    if "8999/http" in ports or "8999/tcp" in ports:
        raise ValueError("not 8999: the model server itself listens there, and lets everybody in")
    return ports


def _env(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("a table of texts")
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or not isinstance(text, str):
            raise ValueError(f"names of variables and texts; {name} is not (numbers need quotes)")
        reference = re.fullmatch(r"\{\{ RUNPOD_SECRET_\w+ \}\}", text, re.ASCII)
        if re.search(r"TOKEN|API_KEY|SECRET|PASSWORD", name) and text and reference is None:
            raise ValueError(
                f"{name} as a reference to a secret of RunPod's, such as "
                f'"{{{{ RUNPOD_SECRET_{name} }}}}", so that it stands in no file and no request'
            )
    return dict(value)
