"""What there is to rent: GPU types with prices and free machines, and network volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from personaplex_bridge.simulator.runpod.problems import Problem

SECURE, COMMUNITY = "SECURE", "COMMUNITY"


@dataclass(slots=True)
class Gpu:
    """A GPU type. Prices are USD an hour, by cloud; a cloud without one doesn't have it."""

    id: str
    name: str
    memory_gb: int
    price: Mapping[str, float]
    free: dict[tuple[str, str], int] = field(default_factory=dict)
    """By cloud and data center."""

    cuda: tuple[str, ...] = ("12.4", "12.8")
    max_count: int = 8

    def entry(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Its place in the catalogue; with stock, if the query asks for it."""
        entry: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "pool": None,
            "manufacturer": "NVIDIA",
            "memory": self.memory_gb,
            "secure": SECURE in self.price,
            "community": COMMUNITY in self.price,
            "price": {cloud.lower(): self.price.get(cloud, 0) for cloud in (SECURE, COMMUNITY)},
            "maxCount": {
                cloud.lower(): self.max_count if cloud in self.price else 0
                for cloud in (SECURE, COMMUNITY)
            },
        }
        return entry | self._stock(query) if "include" in query else entry

    def _stock(self, query: Mapping[str, str]) -> dict[str, Any]:
        cloud, count = query.get("cloud", SECURE), int(query.get("count", "1"))
        versions = [version for version in self.cuda if _wanted(version, query)]
        free = {center: number for (its, center), number in self.free.items() if its == cloud}
        fits = bool(versions) and count <= self.max_count
        centers = [
            {"id": center, "name": center, "availability": level(number // count)}
            for center, number in free.items()
            if fits
        ]
        stock: dict[str, Any] = {"availability": level(sum(free.values()) // count if fits else 0)}
        if centers:
            stock["dataCenters"] = centers
        if versions:
            stock["cudaVersions"] = [
                {"version": version, "available": any(free.values())} for version in versions
            ]
        return stock

    def place(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """Cloud and data center for a new pod; takes the machine.

        Raises:
            Problem: 400, none is free.
        """
        cloud, wanted = body.get("cloud", SECURE), body.get("dataCenterIds") or None
        gpu = body["gpu"]
        count, allowed = gpu.get("count", 1), gpu.get("allowedCudaVersions") or self.cuda
        floor = gpu.get("minCudaVersion", "0.0")
        runs = any(version in allowed and _at_least(version, floor) for version in self.cuda)
        for (its, center), number in self.free.items():
            if its == cloud and (wanted is None or center in wanted) and number >= count and runs:
                self.free[its, center] -= count
                return its, center
        raise Problem(400, "There are no instances currently available with the requested specs.")


@dataclass(frozen=True, slots=True)
class Volume:
    """A network volume."""

    id: str
    name: str
    size_gb: int
    data_center: str

    def entry(self) -> dict[str, Any]:
        """Its place in the list of volumes."""
        return {
            "id": self.id,
            "name": self.name,
            "size": self.size_gb,
            "dataCenter": self.data_center,
            "type": "STANDARD",
        }


def usual_gpus() -> list[Gpu]:
    """A catalogue. The RTX 4090's prices are those of the contract's example, others invented."""
    kansas, texas, romania = "US-KS-2", "US-TX-3", "EU-RO-1"

    def gpu(id_: str, memory_gb: int, secure: float, community: float | None, *where: str) -> Gpu:
        price = {SECURE: secure} | ({} if community is None else {COMMUNITY: community})
        free = {(cloud, center): 4 for cloud in price for center in where}
        return Gpu(
            id_, id_.removeprefix("NVIDIA ").removeprefix("GeForce "), memory_gb, price, free
        )

    return [
        gpu("NVIDIA GeForce RTX 4090", 24, 0.44, 0.31, kansas, romania),
        gpu("NVIDIA GeForce RTX 3090", 24, 0.36, 0.20, texas),
        gpu("NVIDIA RTX A5000", 24, 0.28, 0.18, kansas, texas),
        gpu("NVIDIA L4", 24, 0.40, None, romania),
        gpu("NVIDIA A40", 48, 0.39, None, kansas),
        gpu("NVIDIA RTX A6000", 48, 0.50, 0.34, texas, romania),
        gpu("NVIDIA L40S", 48, 0.88, 0.80, kansas),
        gpu("NVIDIA GeForce RTX 5090", 32, 0.90, 0.70, kansas),
        gpu("NVIDIA GeForce RTX 3070", 8, 0.14, 0.10, texas),
    ]


def level(free: int) -> str:
    """How much stock that is."""
    return "NONE" if free <= 0 else "LOW" if free < 3 else "MEDIUM" if free < 10 else "HIGH"


def find(gpus: Iterable[Gpu], id_: str) -> Gpu:
    """The GPU type of this id.

    Raises:
        Problem: 400, there is none.
    """
    for gpu in gpus:
        if gpu.id == id_:
            return gpu
    raise Problem(400, f"unknown GPU type {id_!r}")


def _wanted(version: str, query: Mapping[str, str]) -> bool:
    exact = query.get("cudaVersions")
    if exact is not None:
        return version in exact.split(",")
    return _at_least(version, query.get("minCudaVersion", "0"))


def _at_least(version: str, floor: str) -> bool:
    """Compared as numbers: 12.11 is above 12.2."""
    return [int(part) for part in version.split(".")] >= [int(part) for part in floor.split(".")]
