"""Which GPU types to try, in which order, and why others are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from personaplex_bridge.runpod.answers import Cloud, GpuType
from personaplex_bridge.runpod.description import MIN_MEMORY_GB, PodDescription


@dataclass(frozen=True, slots=True)
class Candidate:
    """A GPU type in one cloud, at its list price in USD an hour."""

    gpu_id: str
    cloud: Cloud
    price: float
    availability: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.gpu_id} ({self.cloud}, ${self.price:.2f} an hour, stock {self.availability})"


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates, best first; and why each of the others is none."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]


def choose(
    description: PodDescription,
    catalogues: Mapping[Cloud, Sequence[GpuType]],
    data_centers: Sequence[str],
) -> Choice:
    """Candidates of the catalogue with stock, in the description's order or the cheapest first.

    Types come before clouds: the first type in any cloud, then the second. `data_centers`: where it
    may be, which the description or its network volume says; none: anywhere.
    """
    candidates, left_out = [], []
    for gpu_id, cloud, gpu in _offers(description, catalogues):
        why = _why_not(gpu, cloud, description, data_centers)
        if why is not None or gpu is None:
            left_out.append(f"{gpu_id} ({cloud}): {why}")
        else:
            stock = _stock(gpu, data_centers)
            candidates.append(Candidate(gpu_id, cloud, gpu.price[cloud], stock))
    if description.prefer == "price":
        candidates.sort(key=lambda candidate: candidate.price)  # stable: the order breaks ties
    return Choice(tuple(candidates), tuple(left_out))


def _offers(
    description: PodDescription, catalogues: Mapping[Cloud, Sequence[GpuType]]
) -> Iterator[tuple[str, Cloud, GpuType | None]]:
    for gpu_id in description.types:
        for cloud in description.clouds:
            yield gpu_id, cloud, next((gpu for gpu in catalogues[cloud] if gpu.id == gpu_id), None)


def _why_not(
    gpu: GpuType | None, cloud: Cloud, description: PodDescription, data_centers: Sequence[str]
) -> str | None:
    if gpu is None:
        return "not in RunPod's catalogue"
    if not gpu.offered(cloud):
        return "not offered in this cloud"
    if gpu.memory_gb < MIN_MEMORY_GB:
        return f"has {gpu.memory_gb} GB, the model needs {MIN_MEMORY_GB}"
    price, most = gpu.price[cloud], description.max_price
    if most is not None and price > most:
        return f"${price:.2f} an hour, more than max_price {most:.2f}"
    if _stock(gpu, data_centers) == "NONE":
        where = f" in {', '.join(data_centers)}" if data_centers else ""
        return f"none free{where} now"
    return None


def _stock(gpu: GpuType, data_centers: Sequence[str]) -> str:
    """The first level of stock where it may be; NONE if there is none anywhere."""
    if not data_centers:
        return gpu.availability
    levels = [gpu.data_centers.get(center, "NONE") for center in data_centers]
    return next((level for level in levels if level != "NONE"), "NONE")
