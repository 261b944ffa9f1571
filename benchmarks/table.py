"""The README's table of figures, made from the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: made by ./scripts/bench -->", "<!-- end of figures -->"


def write_into(readme: Path, results: Path) -> None:
    """Replace what stands between the two marks."""
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise SystemExit(f"{readme} lacks the marks {BEGIN!r} and {END!r}")
    readme.write_text(f"{before}{BEGIN}\n{render(results)}{END}{after}", "utf-8")


def render(results: Path) -> str:
    """Markdown of every result there is."""
    parts = []
    load = _read(results / "load.json")
    if load:
        parts += [_machine(load), _load_rows(load["loads"])]
    fidelity = _read(results / "fidelity.json")
    if fidelity:
        parts.append(_delay_row(fidelity["algorithmic_delay_ms"]))
        parts.append(_fidelity_rows(fidelity["recordings"]))
    return "\n".join(parts)


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _machine(result: Any) -> str:
    machine = result["machine"]
    return (
        f"Measured on {result['date']}: {machine['processor']}, {machine['cores']} cores, Python "
        f"{machine['python']}, {machine['libopus']}; callers and model on the same machine.\n"
    )


def _load_rows(loads: list[Any]) -> str:
    rows = [
        "| calls | path, packets a page | core a call | times bare codec, in real time / in a loop "
        "| memory | uplink p50 / p99 | downlink p50 / p99 | underruns |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for load in loads:
        up, down = load["uplink_ms"], load["downlink_ms"]
        rows.append(
            f"| {load['calls']} | {load['transcoder']}, {load['packets_per_page']} "
            f"| {load['bridge_core_share_per_call_percent']:.2f} % "
            f"| {load['times_bare_codec_in_real_time']:.1f} "
            f"/ {load['times_bare_codec_in_a_loop']:.1f} "
            f"| {load['resident_mb']:.0f} MB "
            f"| {up['p50']:.1f} / {up['p99']:.1f} ms "
            f"| {down['p50']:.1f} / {down['p99']:.1f} ms | {load['underruns']} |"
        )
    return "\n".join(rows) + "\n"


def _delay_row(delays: dict[str, float]) -> str:
    told = [f"{name.replace('_', ' ')} {delay:.1f}" for name, delay in delays.items()]
    return f"Delay of the algorithm, in ms: {', '.join(told)}.\n"


def _fidelity_rows(recordings: list[Any]) -> str:
    rows = ["| what is heard | " + " | ".join(r["recording"] for r in recordings) + " |"]
    rows.append("|---|" + "---|" * len(recordings))
    for name in recordings[0]:
        if isinstance(recordings[0][name], dict):
            cells = [f"{r[name]['pesq_nb']:.3f} / {r[name]['stoi']:.3f}" for r in recordings]
            rows.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "PESQ narrowband / STOI:\n\n" + "\n".join(rows) + "\n"
