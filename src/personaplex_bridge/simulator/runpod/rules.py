"""What requests must look like: each rule returns what is wrong, one line for each violation.

Written by hand from RunPod's published contract (REST v2). Fields that it doesn't name are wrong,
and so are query parameters that it doesn't name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

Rule: TypeAlias = Callable[[str, Any], list[str]]
"""Takes where a value stands (`$.gpu.count`) and the value."""

ACTIONS = ("start", "stop", "restart", "terminate")
CLOUDS = ("SECURE", "COMMUNITY")
BUCKETS = ("hour", "day", "week", "month", "year")


def text(at: str, value: Any) -> list[str]:
    """A string."""
    return [] if isinstance(value, str) else [f"{at}: got {_kind(value)}, want string"]


def some_text(at: str, value: Any) -> list[str]:
    """A string that isn't empty."""
    return text(at, value) or ([] if value else [f"{at}: length must be >= 1"])


def flag(at: str, value: Any) -> list[str]:
    """A boolean."""
    return [] if isinstance(value, bool) else [f"{at}: got {_kind(value)}, want boolean"]


def at_least(low: int) -> Rule:
    """An integer."""

    def check(at: str, value: Any) -> list[str]:
        if isinstance(value, bool) or not isinstance(value, int):
            return [f"{at}: got {_kind(value)}, want integer"]
        return [] if value >= low else [f"{at}: must be >= {low} but found {value}"]

    return check


def one_of(*values: str) -> Rule:
    """One of a few strings."""

    def check(at: str, value: Any) -> list[str]:
        named = ", ".join(repr(known) for known in values)
        return [] if value in values else [f"{at}: value must be one of {named}"]

    return check


def matching(pattern: str) -> Rule:
    """A string of a pattern."""

    def check(at: str, value: Any) -> list[str]:
        fits = isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII)
        return [] if fits else [f"{at}: does not match pattern {pattern!r}"]

    return check


def list_of(rule: Rule, at_most: int | None = None) -> Rule:
    """An array."""

    def check(at: str, value: Any) -> list[str]:
        if not isinstance(value, list):
            return [f"{at}: got {_kind(value)}, want array"]
        if at_most is not None and len(value) > at_most:
            return [f"{at}: maximum {at_most} items required, but found {len(value)} items"]
        return [why for index, item in enumerate(value) for why in rule(f"{at}[{index}]", item)]

    return check


def texts_by_name(at: str, value: Any) -> list[str]:
    """An object of strings."""
    if not isinstance(value, dict):
        return [f"{at}: got {_kind(value)}, want object"]
    return [why for name, item in value.items() for why in text(f"{at}.{name}", item)]


def or_null(rule: Rule) -> Rule:
    """What the rule takes, or null."""
    return lambda at, value: [] if value is None else rule(at, value)


def record(fields: Mapping[str, Rule], *required: str) -> Rule:
    """An object with these fields and no others."""

    def check(at: str, value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at}: got {_kind(value)}, want object"]
        unknown = [
            f"{at}: additional properties {name!r} not allowed" for name in value.keys() - fields
        ]
        missing = [f"{at}: missing property {name!r}" for name in required if name not in value]
        inside = [
            why
            for name in value.keys() & fields
            for why in fields[name](f"{at}.{name}", value[name])
        ]
        return sorted(unknown + missing + inside)

    return check


_CUDA = matching(r"\d+\.\d+")

_gpu = record(
    {
        "id": text,
        "count": at_least(1),
        "allowedCudaVersions": list_of(_CUDA),
        "minCudaVersion": _CUDA,
    },
    "id",
)
_mounts = record(
    {
        "persistent": record({"size": at_least(10), "path": text}, "size", "path"),
        "network": list_of(record({"volumeId": text, "path": text}, "volumeId", "path"), 1),
    }
)
_pod = record(
    {
        "name": some_text,
        "image": text,
        "args": text,
        "disk": at_least(1),
        "env": texts_by_name,
        "ports": list_of(text),
        "registry": or_null(text),
        "cloud": one_of(*CLOUDS),
        "cpu": record({"id": text, "vcpuCount": at_least(1)}),
        "gpu": _gpu,
        "dataCenterIds": list_of(text),
        "globalNetworking": flag,
        "mounts": _mounts,
        "startJupyter": flag,
        "startSsh": flag,
        "templateId": some_text,
    },
    "name",
)
_action = record({"action": one_of(*ACTIONS)}, "action")


def pod(body: Any) -> list[str]:
    """Violations of `CreatePodRequest` (422)."""
    wrong = _pod("$", body)
    if isinstance(body, dict) and not {"image", "templateId"} & body.keys():
        wrong.append("$: missing property 'image'")
    return wrong


def action(body: Any) -> list[str]:
    """Violations of `PodActionRequest` (422)."""
    return _action("$", body)


def across(body: Mapping[str, Any]) -> str | None:
    """What is wrong across fields (400), or None."""
    mounts, gpu = body.get("mounts", {}), body.get("gpu", {})
    if ("gpu" in body) == ("cpu" in body):
        return "exactly one of gpu or cpu must be set"
    if "persistent" in mounts and "network" in mounts:
        return "mounts.persistent and mounts.network are mutually exclusive"
    if "network" in mounts and not mounts["network"]:
        return "mounts.network must not be empty"
    if gpu.get("allowedCudaVersions") and "minCudaVersion" in gpu:
        return "gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive"
    for port in body.get("ports", []):
        if not re.fullmatch(r"\d{1,5}/(http|tcp)", port, re.ASCII):
            return f"port {port!r} is not of the form port/protocol"
    return None


# ------------------------------------------------------------------------------ queries


def words(*values: str) -> Callable[[str], bool]:
    """One or several of these, with commas between them."""
    return lambda value: bool(value) and all(part in values for part in value.split(","))


def whole(low: int, high: int) -> Callable[[str], bool]:
    """A whole number."""
    return lambda value: value.isascii() and value.isdigit() and low <= int(value) <= high


def moment(value: str) -> bool:
    """An RFC 3339 date and time."""
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def anything(value: str) -> bool:
    """Any string."""
    return True


def looks(pattern: str) -> Callable[[str], bool]:
    """A string of a pattern."""
    return lambda value: re.fullmatch(pattern, value, re.ASCII) is not None


QUERIES: Mapping[str, Mapping[str, Callable[[str], bool]]] = {
    "pods": {"includeClusterPods": words("true", "false")},
    "gpus": {
        "include": words("AVAILABILITY"),
        "product": words("POD", "CLUSTER", "SERVERLESS"),
        "count": whole(1, 1 << 31),
        "cloud": lambda value: value in CLOUDS,
        "countryCodes": anything,
        "cudaVersions": looks(r"\d+\.\d+(,\d+\.\d+)*"),
        "minCudaVersion": looks(r"\d+(\.\d+)?"),
    },
    "logs": {
        "source": lambda value: value in ("container", "system"),
        "tail": whole(0, 5000),
        "since": moment,
    },
    "billing": {
        "startTime": moment,
        "endTime": moment,
        "bucketSize": lambda value: value in BUCKETS,
        "lastN": whole(1, 1 << 31),
        "podId": anything,
    },
    "volumes": {},
    "pod": {},
}


def query(route: str, given: Mapping[str, str]) -> list[str]:
    """Violations of a route's query parameters (422)."""
    known = QUERIES[route]
    unknown = [f"query parameter {name!r} is not known" for name in given if name not in known]
    bad = [
        f"query parameter {name!r}: {value[:40]!r} is not allowed"
        for name, value in given.items()
        if name in known and not known[name](value)
    ]
    return unknown + bad


def across_query(route: str, given: Mapping[str, str]) -> str | None:
    """What is wrong across query parameters (400), or None."""
    if route == "gpus":
        if "include" in given and "product" not in given:
            return "include=AVAILABILITY requires product"
        if "include" not in given and given.keys() - {"countryCodes"}:
            return f"{min(given.keys() - {'countryCodes'})} is valid only with include=AVAILABILITY"
        if {"cudaVersions", "minCudaVersion"} <= given.keys():
            return "cudaVersions and minCudaVersion are mutually exclusive"
    if route == "billing" and "lastN" in given and given.keys() & {"startTime", "endTime"}:
        return "lastN and startTime/endTime are mutually exclusive"
    return None


def _kind(value: Any) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return "null" if value is None else kinds.get(type(value), "object")
