"""What was measured, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.soak.findings import Figures
from benchmarks.soak.verdict import Verdict


def render(baseline: Figures, run: Figures, verdicts: Sequence[Verdict]) -> str:
    """Figures, faults and verdicts, as Markdown."""
    return "\n".join([*_figures(baseline, run), "", *_faults(run), "", *_verdicts(verdicts)])


def _figures(baseline: Figures, run: Figures) -> list[str]:
    rows = [
        ("calls without a fault", baseline.calls, run.calls),
        ("of these judged", baseline.judged, run.judged),
        ("affected", baseline.affected, run.affected),
        ("frames sent by phones / heard by models", _pair(baseline), _pair(run)),
        ("frames said by models / received", _answers(baseline), _answers(run)),
        ("lost / doubled", *(f"{one.lost} / {one.doubled}" for one in (baseline, run))),
        (
            "gaps / problems",
            *(f"{one.gaps} / {sum(one.problems.values())}" for one in (baseline, run)),
        ),
        ("underruns", baseline.underruns, run.underruns),
        ("uplink p50 / p99 / max", *(_delay(one.uplink_ms) for one in (baseline, run))),
        ("downlink p50 / p99 / max", *(_delay(one.downlink_ms) for one in (baseline, run))),
        ("calls with a fault", baseline.faulty, run.faulty),
    ]
    head = ["| | without faults | with faults |", "|---|---|---|"]
    return [*head, *(f"| {what} | {before} | {after} |" for what, before, after in rows)]


def _pair(figures: Figures) -> str:
    return f"{figures.sent:,} / {figures.heard:,}"


def _answers(figures: Figures) -> str:
    return f"{figures.said:,} / {figures.received:,}"


def _delay(delays: dict[str, float] | None) -> str:
    if delays is None:
        return "-"
    return f"{delays['p50']:.2f} / {delays['p99']:.2f} / {delays['max']:.0f} ms"


def _faults(run: Figures) -> list[str]:
    rows = ["| fault | calls | how they ended |", "|---|---|---|"]
    for fault, outcomes in run.faults.items():
        often = sorted(outcomes.items(), key=lambda outcome: -outcome[1])
        told = "; ".join(f"{outcome} ({times})" for outcome, times in often)
        rows.append(f"| {fault} | {sum(outcomes.values())} | {told} |")
    return rows


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    rows = ["| criterion | | seen |", "|---|---|---|"]
    return rows + [
        f"| {one.criterion} | {'PASS' if one.is_met else 'FAIL'} | {one.seen} |" for one in verdicts
    ]
