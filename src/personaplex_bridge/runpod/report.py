"""What `status` and `cost` print: pure functions from answers to lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from personaplex_bridge.runpod.answers import Pod, Spent
from personaplex_bridge.runpod.gate import GateState

FRAME_MS = 80
"""A model that takes longer than this for a step can't keep up with a caller."""


def price(usd_an_hour: float) -> str:
    """A card's price, and what that makes for a minute of a call: it carries one at a time."""
    minute = usd_an_hour / 60
    return f"${usd_an_hour:.2f} an hour, ${minute:.4f} a call-minute (one call at a time)"


def status_lines(pod: Pod, url: str, gate: GateState | None) -> Iterator[str]:
    """All that is known of a pod and of the model in it."""
    yield f"pod        {pod.id} ({pod.name})"
    up = f" for {duration(pod.uptime_s)}" if pod.uptime_s is not None else ""
    yield f"state      {pod.status}{up}; it may be asked to: {', '.join(pod.actions) or 'nothing'}"
    where = ", ".join(filter(None, (pod.gpu, pod.cloud, pod.data_center)))
    yield f"GPU        {where}"
    yield f"image      {pod.image}"
    yield f"storage    {storage(pod)}"
    yield f"price      {price(pod.cost) if pod.cost else 'no GPU is paid for now; storage is'}"
    if gate is not None:
        yield f"model      {_model(gate)}"
        if gate.token_fits is False:
            yield "           the gate doesn't take PERSONAPLEX_TOKEN: it has another GATE_TOKEN"
    yield f"address    PERSONAPLEX_URL={url}"


def storage(pod: Pod) -> str:
    """What it keeps, and for how long."""
    parts = [f"{pod.disk_gb} GB of its own, lost when it stops"] if pod.disk_gb else []
    if pod.persistent_gb:
        parts.append(f"{pod.persistent_gb} GB persistent, deleted with it")
    if pod.network_volume:
        parts.append(f"network volume {pod.network_volume}, which outlives it")
    return "; ".join(parts) or "none"


def what_goes(pod: Pod) -> Iterator[str]:
    """What deleting a pod deletes, and what it leaves."""
    yield f"This deletes pod {pod.id} ({pod.name}, {pod.status}), and its address."
    if pod.persistent_gb:
        yield (
            f"Its persistent volume of {pod.persistent_gb} GB goes too: the weights will be "
            "downloaded again the next time."
        )
    if pod.network_volume:
        yield f"The network volume {pod.network_volume} stays, and costs what it costs every month."
    elif not pod.persistent_gb:
        yield "It has no volume: nothing else stays, and nothing else goes."


def cost_lines(spent: Sequence[Spent], days: int, whose: str) -> Iterator[str]:
    """A table by day, newest last, and the sum."""
    yield f"{whose}, the last {days} days (UTC), USD:"
    yield f"  {'day':10}  {'GPU':>8}  {'storage':>8}  {'total':>8}"
    by_day: dict[str, list[Spent]] = defaultdict(list)
    for record in spent:
        by_day[record.start[:10]].append(record)
    for day in sorted(by_day):
        if any(record.total for record in by_day[day]):
            yield _row(day, by_day[day])
    if not any(record.total for record in spent):
        yield "  nothing was spent"
    yield _row("sum", spent)


def cost_by_pod(spent: Iterable[Spent]) -> Iterator[str]:
    """The sum of each pod, the dearest first."""
    sums: dict[str, float] = defaultdict(float)
    for record in spent:
        sums[record.pod_id] += record.total
    for pod_id, total in sorted(sums.items(), key=lambda item: -item[1]):
        yield f"  pod {pod_id:16}  {total:8.2f}"


def duration(seconds: float) -> str:
    """A length of time for people."""
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def _row(label: str, records: Sequence[Spent]) -> str:
    gpu = sum(record.gpu + record.cpu for record in records)
    disk = sum(record.disk for record in records)
    total = sum(record.total for record in records)
    return f"  {label:10}  {gpu:8.2f}  {disk:8.2f}  {total:8.2f}"


def _model(gate: GateState) -> str:
    if gate.step_ms is None:
        return str(gate)
    p95 = f", p95 {gate.step_p95_ms:.0f} ms" if gate.step_p95_ms is not None else ""
    keeps = {True: "it keeps up", False: "TOO SLOW for a call", None: ""}[gate.keeps_up]
    return f"{gate}; a step takes {gate.step_ms:.0f} ms of {FRAME_MS}{p95}: {keeps}".rstrip(": ")
