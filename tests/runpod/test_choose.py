"""Candidates in their order, and the reason for each type that is none."""

from __future__ import annotations

from personaplex_bridge.runpod.answers import Cloud, GpuType
from personaplex_bridge.runpod.choose import choose
from tests.runpod.harness import A5000, RTX_3090, RTX_4090, described


def gpu(
    id_: str, secure: float, community: float | None = None, stock: str = "HIGH", **changes: object
) -> GpuType:
    price = {"SECURE": secure, "COMMUNITY": community or 0.0}
    base = GpuType(id_, id_, 24, True, community is not None, price, stock, {"US-KS-2": stock})
    return GpuType(**{name: getattr(base, name) for name in base.__slots__} | changes)


def order(
    *gpus: GpuType, centers: tuple[str, ...] = (), **keys: object
) -> tuple[list[tuple[str, str]], str]:
    description = described(gpu={"types": [RTX_4090, RTX_3090, A5000], **keys})
    catalogues: dict[Cloud, list[GpuType]] = {cloud: list(gpus) for cloud in description.clouds}
    choice = choose(description, catalogues, centers)
    named = [(candidate.gpu_id, str(candidate.cloud)) for candidate in choice.candidates]
    return named, "\n".join(choice.left_out)


FIRST, SECOND, THIRD = gpu(RTX_4090, 0.44, 0.31), gpu(RTX_3090, 0.36, 0.2), gpu(A5000, 0.28)


def test_types_come_before_clouds() -> None:
    named, left_out = order(THIRD, SECOND, FIRST, clouds=["COMMUNITY", "SECURE"])
    assert named == [
        (RTX_4090, "COMMUNITY"),
        (RTX_4090, "SECURE"),
        (RTX_3090, "COMMUNITY"),
        (RTX_3090, "SECURE"),
        (A5000, "SECURE"),
    ]
    assert left_out == f"{A5000} (COMMUNITY): not offered in this cloud"


def test_the_cheapest_first() -> None:
    named, _ = order(FIRST, SECOND, THIRD, clouds=["SECURE", "COMMUNITY"], prefer="price")
    assert named[:3] == [(RTX_3090, "COMMUNITY"), (A5000, "SECURE"), (RTX_4090, "COMMUNITY")]


def test_why_a_type_is_left_out() -> None:
    named, left_out = order(gpu(RTX_4090, 0.95), gpu(RTX_3090, 0.3, stock="NONE"), max_price=0.9)
    assert named == []
    assert "$0.95 an hour, more than max_price 0.90" in left_out
    assert "none free now" in left_out
    assert f"{A5000} (SECURE): not in RunPod's catalogue" in left_out
    _, left_out = order(gpu(RTX_4090, 0.4, memory_gb=20))
    assert "has 20 GB, the model needs 24" in left_out


def test_data_centers() -> None:
    there = gpu(RTX_4090, 0.44, data_centers={"EU-RO-1": "LOW", "US-KS-2": "NONE"})
    assert order(there, centers=("US-KS-2", "EU-RO-1"))[0] == [(RTX_4090, "SECURE")]
    named, left_out = order(there, centers=("US-KS-2",))
    assert named == []
    assert "none free in US-KS-2 now" in left_out
