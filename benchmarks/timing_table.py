"""The README's tables of how well a conversation stays in time."""

from __future__ import annotations

from typing import Any


def rows(timing: Any) -> list[str]:
    """Markdown paragraphs and tables."""
    return [
        _setup(timing["setup"]),
        _stalls(timing["stalls"]),
        _jitter(timing["jitter"]),
        _barge_in(timing["barge_in"]),
        _half_an_hour(timing["half_an_hour"]),
    ]


def _setup(setup: Any) -> str:
    warm, real, cold = setup["warm"], setup["warm_in_real_time"], setup["cold"]
    return (
        f"Set-up, with a model whose prompt takes {setup['prompt_ms'] / 1000:g} s: warm, from "
        f"Twilio's `start` to the first frame at the model {warm['p50']:.0f} ms, p99 "
        f"{warm['p99']:.0f} ms ({warm['n']} calls; {real['n']} more in real time: p99 "
        f"{real['p99']:.0f} ms); cold, from the handshake p99 {cold['p99']:.0f} ms "
        f"({cold['n']} calls). Connections beside another: {setup['connections_beside_another']}."
        "\n"
    )


def _stalls(stalls: Any) -> str:
    lines = [
        "| stall, in a call that echoes | delay before | at worst | 10 s after | within 100 ms "
        "again after | pauses left out | lost | gaps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, both in stalls.items():
        for label in ("without", "with"):
            found = both[label]
            back_s = found["back_within_100_ms_after_s"]
            lines.append(
                f"| {name}, {label} | {found['before_ms']} ms | {found['worst_ms']} ms "
                f"| {found['after_10_s_ms']} ms | {'never' if back_s is None else f'{back_s} s'} "
                f"| {found['left_out_of_pauses_ms']} ms | {found['lost_ms']} ms "
                f"| {found['gaps']} |"
            )
    return "\n".join(lines) + "\n"


def _jitter(jitter: Any) -> str:
    lines = [
        "| jitter of the model's messages | | audible gaps a minute | delay | at the end |",
        "|---|---|---|---|---|",
    ]
    for name, both in jitter.items():
        lines += [
            f"| {name} | {label} | {both[label]['gaps_per_minute']:g} "
            f"({both[label]['gap_ms_per_minute']} ms) | {both[label]['delay_ms']} ms "
            f"| {both[label]['delay_at_the_end_ms']} ms |"
            for label in ("without", "with")
        ]
    return "\n".join(lines) + "\n"


def _barge_in(found: Any) -> str:
    on, off = found["onset_to_silence_with"], found["onset_to_silence_without"]
    return (
        f"Interruptions, {found['recognised']} of {found['interruptions']} recognised, with "
        f"{found['waiting_at_onset']['p50'] / 1000:.1f} s of the model waiting: from the caller's "
        f"onset to silence at the phone {on['p50']:.0f} ms, at most {on['max']:.0f} ms (without: "
        f"{off['p50']:.0f} ms). Of {found['backchannels']} backchannels of 300 ms "
        f"{found['backchannels_that_cleared']} cleared; the model's voice paused for "
        f"{found['pause_in_the_model_for_a_backchannel']['p50']:.0f} ms.\n"
    )


def _half_an_hour(calls: Any) -> str:
    told = [
        f"{name}: {call['delay_first_minute_ms']} ms in the first minute, "
        f"{call['delay_middle_ms']} ms in the middle, {call['delay_last_minute_ms']} ms in the "
        f"last; {call['gaps']} audible gaps"
        for name, call in calls.items()
    ]
    return (
        "Half an hour with jitter of 0 to 40 ms on the caller's messages and 0 to 60 ms on the "
        f"model's, and a model whose clock differs: {'; '.join(told)}.\n"
    )
