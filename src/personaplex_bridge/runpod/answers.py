"""What RunPod's REST API v2 answers, as frozen values.

Unknown fields are ignored, since RunPod adds some; fields that are needed must be there and be of
their type. Every `parse` raises ValueError with what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

T = TypeVar("T")

Cloud: TypeAlias = Literal["SECURE", "COMMUNITY"]
Action: TypeAlias = Literal["start", "stop", "restart", "terminate"]
LogSource: TypeAlias = Literal["container", "system"]

COMING = frozenset({"PROVISIONING", "STARTING"})
"""States of a pod that is on its way to RUNNING."""

COSTS_GPU = COMING | {"RUNNING"}
"""States in which a pod has its GPU, which costs."""

STOCK = ("NONE", "LOW", "MEDIUM", "HIGH")
"""Levels of availability, from nothing up."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. `cost` is USD an hour, now; `uptime_s` is None unless its container runs."""

    id: str
    name: str
    status: str
    """PROVISIONING, STARTING, RUNNING, EXITED, ERROR or TERMINATED."""

    actions: tuple[str, ...] = ()
    """What may be asked of it in this state."""

    image: str = ""
    cost: float = 0.0
    cloud: str = "SECURE"
    data_center: str | None = None
    gpu: str | None = None
    ports: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    disk_gb: int = 0
    persistent_gb: int | None = None
    """Size of the volume that dies with the pod."""

    network_volume: str | None = None
    """Id of the volume that outlives the pod."""

    uptime_s: int | None = None

    @property
    def has_gpu(self) -> bool:
        """It is running or about to, and its GPU costs."""
        return self.status in COSTS_GPU

    @property
    def port(self) -> int:
        """The gate's: the first HTTP port; 8998 if it has none."""
        numbers = (port.removesuffix("/http") for port in self.ports if port.endswith("/http"))
        return next((int(number) for number in numbers if number.isdigit()), 8998)

    @classmethod
    def parse(cls, answer: object) -> Pod:
        """A pod of an answer."""
        pod = _object(answer, "pod")
        persistent, network = _mounts(pod)
        return cls(
            id=need(pod, "id", str),
            name=need(pod, "name", str),
            status=need(pod, "status", str),
            actions=tuple(str(action) for action in need(pod, "actions", list)),
            image=may(pod, "image", str, ""),
            cost=_number(pod, "cost"),
            cloud=may(pod, "cloud", str, "SECURE"),
            data_center=pod.get("dataCenterId"),
            gpu=may(pod, "gpu", dict, {}).get("id"),
            ports=tuple(str(port) for port in may(pod, "ports", list, [])),
            env=may(pod, "env", dict, {}),
            disk_gb=may(pod, "disk", int, 0),
            persistent_gb=persistent,
            network_volume=network,
            uptime_s=may(pod, "runtime", dict, {}).get("uptime"),
        )


@dataclass(frozen=True, slots=True)
class GpuType:
    """A GPU type of the catalogue, with the prices of a single one in USD an hour."""

    id: str
    name: str
    memory_gb: int
    secure: bool
    community: bool
    price: Mapping[str, float]
    """By cloud: SECURE, COMMUNITY."""

    availability: str = "NONE"
    """One of STOCK, for the cloud that was asked about."""

    data_centers: Mapping[str, str] = field(default_factory=dict)
    """Stock by data center."""

    @classmethod
    def parse(cls, answer: object) -> GpuType:
        """A GPU type of an answer."""
        gpu = _object(answer, "GPU type")
        price = need(gpu, "price", dict)
        centers = [_object(center, "data center") for center in may(gpu, "dataCenters", list, [])]
        return cls(
            id=need(gpu, "id", str),
            name=need(gpu, "name", str),
            memory_gb=need(gpu, "memory", int),
            secure=need(gpu, "secure", bool),
            community=need(gpu, "community", bool),
            price={cloud.upper(): _number(price, cloud) for cloud in ("secure", "community")},
            availability=may(gpu, "availability", str, "NONE"),
            data_centers={
                need(center, "id", str): need(center, "availability", str) for center in centers
            },
        )

    def offered(self, cloud: str) -> bool:
        """Whether this cloud has such GPUs at all."""
        return self.secure if cloud == "SECURE" else self.community


@dataclass(frozen=True, slots=True)
class NetworkVolume:
    """A volume that outlives pods, and pins them to its data center."""

    id: str
    name: str
    size_gb: int
    data_center: str

    @classmethod
    def parse(cls, answer: object) -> NetworkVolume:
        """A network volume of an answer."""
        volume = _object(answer, "network volume")
        return cls(
            need(volume, "id", str),
            need(volume, "name", str),
            need(volume, "size", int),
            need(volume, "dataCenter", str),
        )


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a pod's log: of its container, or of the host's system (image pulls and so on)."""

    id: str
    """Where to go on from, as the stream named it."""

    source: str
    line: str = field(repr=False)
    time: str
    """RFC 3339."""

    @classmethod
    def parse(cls, id_: str, answer: object) -> LogLine:
        """The `data` of an event of the log's stream."""
        event = _object(answer, "log event")
        return cls(
            id_, need(event, "source", str), need(event, "line", str), may(event, "ts", str, id_)
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What one pod cost in a bucket of time, in USD."""

    start: str
    """RFC 3339, inclusive; its first ten characters are the day."""

    pod_id: str
    total: float
    gpu: float
    cpu: float
    disk: float

    @classmethod
    def parse(cls, answer: object) -> Spent:
        """A billing record of an answer."""
        record = _object(answer, "billing record")
        total, gpu, cpu, disk = (
            _number(record, f"{part}Amount") for part in ("total", "gpu", "cpu", "disk")
        )
        start, pod_id = need(record, "startTime", str), need(record, "podId", str)
        return cls(start, pod_id, total, gpu, cpu, disk)


def listed(answer: object, name: str) -> list[Any]:
    """The list that an answer wraps, such as `pods`."""
    return need(_object(answer, "answer"), name, list)


def need(answer: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """A field that must be there."""
    value = answer.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


def may(answer: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """A field that may be missing or null."""
    return default if answer.get(name) is None else need(answer, name, kind)


def _number(answer: Mapping[str, Any], name: str) -> float:
    value = answer.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {type(value).__name__}, not a number")
    return float(value)


def _object(answer: object, what: str) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError(f"{what} is {type(answer).__name__}, not an object")
    return answer


def _mounts(pod: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """Size of the persistent volume, id of the network volume."""
    mounts = may(pod, "mounts", dict, {})
    persistent = may(mounts, "persistent", dict, {})
    network = may(mounts, "network", list, [])
    return persistent.get("size"), network[0].get("volumeId") if network else None
