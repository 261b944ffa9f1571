"""The README's table of figures, made from the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import timing_table

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
    timing = _read(results / "timing.json")
    if timing:
        parts += timing_table.rows(timing)
    gate = _read(results / "gate.json")
    if gate:
        parts += [_gate_intro(gate), _gate_rows(gate), _candidate_rows(gate)]
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
            f"| {_delay(up)} | {_delay(down)} | {load['underruns']} |"
        )
    return "\n".join(rows) + "\n"


def _delay(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['p50']:.1f} / {found['p99']:.1f} ms"


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


def _gate_intro(gate: Any) -> str:
    costs = gate["core_share_per_call_percent"]
    return (
        f"Noise gate, on {gate['minutes']} min of noisy calls ({gate['utterances']} utterances of "
        f"{', '.join(gate['sounds'])}): speech frames lost / speech-free frames silenced / "
        f"utterances whose first 80 ms are kept (but for 20 ms at most), in %. It costs "
        f"{min(costs.values()):.3f} % of a core a call in a loop and "
        f"{costs['50_calls_in_real_time']:.3f} % at 50 calls in real time.\n"
    )


def _gate_rows(gate: Any) -> str:
    noises = list(dict.fromkeys(name.split()[0] for name in gate["auto"]))
    snrs = list(dict.fromkeys(name.split()[1] for name in gate["auto"]))
    rows = ["| gate | noise | " + " | ".join(f"{snr} dB" for snr in snrs) + " |"]
    rows.append("|---|---|" + "---|" * len(snrs))
    for mode in ("auto", "strict"):
        for noise in noises:
            scores = [gate[mode][f"{noise} {snr} dB"] for snr in snrs]
            cells = [
                f"{s['speech_gated']:.1f} / {s['free_silenced']:.0f} / {s['onsets_kept']:.0f}"
                for s in scores
            ]
            rows.append(f"| {mode} | {noise} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _candidate_rows(gate: Any) -> str:
    """The worst speech loss, and what is silenced, over all noises."""
    rows = [
        "| detector (then the gate's hangover) | speech lost, worst of 20 and 10 dB / of 5 dB "
        "| silenced at 20 and 10 dB, mean / worst | core a call |",
        "|---|---|---|---|",
    ]
    rows += [
        _candidate_row(tried, how)
        for tried in gate["candidates"]
        for how in ("alone", "with_level")
        if how in tried
    ]
    return "\n".join(rows) + "\n"


def _candidate_row(tried: Any, how: str) -> str:
    clear = [s for name, s in tried[how].items() if not name.endswith(" 5 dB")]
    faint = [s for name, s in tried[how].items() if name.endswith(" 5 dB")]
    silenced = [s["free_silenced"] for s in clear]
    return (
        f"| {tried['name']}, {how.replace('_', ' ')} | {max(s['speech_gated'] for s in clear):.1f} "
        f"/ {max(s['speech_gated'] for s in faint):.1f} % "
        f"| {sum(silenced) / len(silenced):.0f} / {min(silenced):.0f} % "
        f"| {tried['core_share_per_call_percent'][how]:.2f} % |"
    )
