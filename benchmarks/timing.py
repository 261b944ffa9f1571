"""How well a conversation stays in time: set-up, stalls, jitter, interruptions, half an hour.

*Without* is the same bridge with its timing switched off: lag is not worked off (LAG_TARGET_MS),
no cushion, backlogs of ten seconds, no barge-in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import uvloop

from benchmarks.simulated import Outcome, line, simulate
from personaplex_bridge.audio.files import read_as_mulaw
from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS, SILENCE, loudness
from personaplex_bridge.clock import SYSTEM_CLOCK, LoopClock
from personaplex_bridge.config import Settings
from personaplex_bridge.simulator import virtual_time
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.faults import CallFaults, Jitter, ModelFaults, Slow, Spell
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.talk import without_pauses

BACKCHANNELS = Path(__file__).parent / "data" / "backchannels.flac"
"""Ten "uh-huh"s of 300 ms by four synthetic voices, one a second."""

ECHOING = Settings(warm_lines=False, barge_in=False)
"""A model that says what it hears would be interrupted by the caller all the time."""
WITHOUT = dataclasses.replace(
    ECHOING,
    lag_target_ms=None,
    cushion=False,
    uplink_backlog_ms=10_000,
    downlink_backlog_ms=10_000,
)
PAUSE_FRAMES = 30
"""Pauses in the caller's speech are cut to 600 ms, so that there is no more silence to work lag off
in than in a lively conversation."""

PROMPT_MS = 7000
STALL_AT_S, CALL_S = 15.0, 45.0
BACK_WITHIN_MS = 100.0


def measure(sound: Path) -> dict[str, Any]:
    """All of it; figures in milliseconds unless named otherwise."""
    speech = without_pauses(read_as_mulaw(sound), PAUSE_FRAMES)
    long = (speech * (1 + 1800 * 8000 // len(speech)))[: 1800 * 8000]
    with ProcessPoolExecutor() as pool:
        setup = pool.submit(_setup)
        drifts = {
            f"{whose}'s clock {ppm:+d} ppm": pool.submit(
                _drift, long, ppm * (whose == "phone"), ppm * (whose == "model")
            )
            for whose in ("model", "phone")
            for ppm in (50, -50)
        }
        steps = {
            "setup": setup,
            "stalls": pool.submit(_stalls, speech),
            "jitter": pool.submit(_jitter, speech),
            "barge_in": pool.submit(_barge_in, sound),
        }
        result = {name: _told(name, step) for name, step in steps.items()}
        result["half_an_hour"] = {name: _told(name, drift) for name, drift in drifts.items()}
    return result


def _told(name: str, step: Future[dict[str, Any]]) -> dict[str, Any]:
    result = step.result()
    print(f"timing: {name} done", flush=True)
    return result


# --- Set-up -----------------------------------------------------------------------------------


def _setup(simulated: int = 200, real: int = 10) -> dict[str, Any]:
    """From `start` to the first frame at the model (warm), and from the handshake to it (cold)."""
    warm = virtual_time.run(_calls_in_a_row(simulated, LoopClock(), warm=True))
    cold = virtual_time.run(_calls_in_a_row(simulated, LoopClock(), warm=False))
    in_real_time = uvloop.run(_calls_in_a_row(real, SYSTEM_CLOCK, warm=True))
    return {
        "prompt_ms": PROMPT_MS,
        "warm": _start_to_model(warm),
        "warm_in_real_time": _start_to_model(in_real_time),
        "cold": _handshake_to_model(cold),
        "connections_beside_another": max(
            outcome.crowded for outcome in (*warm, *cold, *in_real_time)
        ),
    }


async def _calls_in_a_row(number: int, clock: Any, *, warm: bool) -> list[Outcome]:
    """Calls, each once the line is warm again; cold ones ask for another persona every time."""
    outcomes = []
    random = np.random.default_rng(1)
    async with line(ModelOptions("silence", prompt_ms=PROMPT_MS), Settings(), clock) as ready:
        for index in range(number):
            await clock.sleep_until(clock.now() + PROMPT_MS / 1000 + 0.5 + random.uniform(0, 0.1))
            query = "" if warm else f"?text_prompt=caller+{index}"
            seconds = 0.5 if warm else PROMPT_MS / 1000 + 1
            faults = CallFaults(answer_after_s=random.uniform(0.1, 0.5))
            plan = CallPlan("", b"", hang_up_after_s=seconds, faults=faults)
            outcomes.append(await ready.call(plan, query))
    return outcomes


def _start_to_model(outcomes: list[Outcome]) -> dict[str, float]:
    return _percentiles([(o.model.heard_at[0] - o.phone.sent_at[0]) * 1000 for o in outcomes])


def _handshake_to_model(outcomes: list[Outcome]) -> dict[str, float]:
    return _percentiles([(o.model.heard_at[0] - (o.model.shook_at or 0)) * 1000 for o in outcomes])


# --- Stalls -----------------------------------------------------------------------------------


def _stalls(speech: bytes) -> dict[str, Any]:
    """What the caller's own echo tells: its delay before, at the worst, and afterwards."""
    two = (Spell(STALL_AT_S, 2.0),)
    slow = Spell(STALL_AT_S, 10.0)
    stalls: dict[str, tuple[Spell, CallFaults, ModelFaults]] = {
        "model pauses 2 s": (two[0], CallFaults(), ModelFaults(pause=two)),
        "model's socket blocked 2 s": (two[0], CallFaults(), ModelFaults(block=two)),
        "Twilio's socket blocked 2 s": (two[0], CallFaults(block=two), ModelFaults()),
        "model at 0.8x for 10 s": (slow, CallFaults(), ModelFaults(slow=(Slow(0.8, slow),))),
    }
    sound = speech * (1 + int(CALL_S * 8000 / len(speech)))
    return {
        name: {
            label: _after_stall(simulate(sound, CALL_S, how, call=call, model=model), sound, spell)
            for label, how in (("without", WITHOUT), ("with", ECHOING))
        }
        for name, (spell, call, model) in stalls.items()
    }


def _after_stall(outcome: Outcome, speech: bytes, stall: Spell) -> dict[str, Any]:
    found = [match for match in outcome.echoes(speech) if match.found]
    before_ms = median(m.delay_s * 1000 for m in found if m.at_s < stall.at_s - 2)
    after = [m for m in found if m.at_s >= stall.end_s]
    late = [m for m in after if m.delay_s * 1000 > before_ms + BACK_WITHIN_MS]
    settled = [m for m in after if m.at_s >= stall.end_s + 10]
    back_s = max((m.at_s + m.delay_s - stall.end_s for m in late), default=0.0)
    record = outcome.record
    return {
        "before_ms": round(before_ms),
        "worst_ms": round(max(m.delay_s for m in found) * 1000),
        "after_10_s_ms": round(max(m.delay_s for m in settled) * 1000),
        "back_within_100_ms_after_s": None if late and late[-1] is after[-1] else round(back_s, 1),
        "left_out_of_pauses_ms": FRAME_MS
        * (record.shortened_frames + record.pauses_shortened_frames),
        "lost_ms": FRAME_MS * (record.dropped_frames + record.overdue_frames),
        "gaps": len(outcome.phone.gaps),
    }


# --- Jitter -----------------------------------------------------------------------------------


def _jitter(speech: bytes) -> dict[str, Any]:
    """Audible gaps a minute and delay added, over several seeds of one minute each."""
    sound = speech * (1 + int(60 * 8000 / len(speech)))
    kinds: dict[str, Callable[[int], Jitter | None]] = {
        "none": lambda seed: None,
        "0 to 120 ms": lambda seed: Jitter(120, seed=seed),
        "0 to 120 ms from 20 to 40 s": lambda seed: Jitter(120, Spell(20, 20), seed),
        "hiccups, one message in 40": lambda seed: Jitter(120, seed=seed, one_in=40),
    }
    return {
        name: {
            label: _gaps_and_delay(
                [
                    simulate(sound, 60.0, how, model=ModelFaults(jitter=kind(seed)))
                    for seed in range(1, 6)
                ],
                sound,
            )
            for label, how in (("without", WITHOUT), ("with", ECHOING))
        }
        for name, kind in kinds.items()
    }


def _gaps_and_delay(outcomes: list[Outcome], speech: bytes) -> dict[str, float]:
    delays = [[m for m in o.echoes(speech) if m.found] for o in outcomes]
    return {
        "gaps_per_minute": round(mean(len(o.phone.gaps) for o in outcomes), 2),
        "gap_ms_per_minute": round(mean(sum(g.ms for g in o.phone.gaps) for o in outcomes)),
        "delay_ms": round(median(m.delay_s * 1000 for found in delays for m in found)),
        "delay_at_the_end_ms": round(median(found[-1].delay_s * 1000 for found in delays)),
    }


# --- Interruptions ----------------------------------------------------------------------------

ONSET_S = 13.0
SILENT_FRAMES = 5
"""100 ms without sound are silence; words have shorter stops."""
FULL = CallFaults(block=(Spell(9.0, 2.5),))
"""Twilio takes nothing for a while, and the model talks on: a second of it waits afterwards."""


def _barge_in(sound: Path) -> dict[str, Any]:
    """Every utterance of the recording, at four phases of the model's frame."""
    cuts = [
        (utterance, phase_ms)
        for utterance in _utterances(read_as_mulaw(sound))
        for phase_ms in range(0, 80, FRAME_MS)
    ]
    on, off = Settings(warm_lines=False), Settings(warm_lines=False, barge_in=False)
    heard = [_interrupt(utterance, phase_ms, on) for utterance, phase_ms in cuts]
    ignored = [_interrupt(utterance, phase_ms, off) for utterance, phase_ms in cuts]
    sounds = read_as_mulaw(BACKCHANNELS)
    nods = [_interrupt(sounds[at : at + 8000], 0, on) for at in range(0, len(sounds), 8000)]
    waiting = [event.waiting_ms for outcome, _ in heard for event in outcome.record.barge_ins]
    return {
        "interruptions": len(cuts),
        "recognised": len(waiting),
        "waiting_at_onset": _percentiles(waiting),
        "onset_to_silence_with": _percentiles([silent_ms for _, silent_ms in heard]),
        "onset_to_silence_without": _percentiles([silent_ms for _, silent_ms in ignored]),
        "backchannels": len(nods),
        "backchannels_that_cleared": sum(len(outcome.record.barge_ins) > 0 for outcome, _ in nods),
        "pause_in_the_model_for_a_backchannel": _percentiles([_pause_ms(o) for o, _ in nods]),
    }


def _interrupt(utterance: bytes, phase_ms: int, how: Settings) -> tuple[Outcome, float]:
    """A call in which the caller speaks while a second of the model waits; how many milliseconds
    after their onset the phone was silent.
    """
    onset = round((ONSET_S * 1000 + phase_ms) / FRAME_MS)
    plan = SILENCE * (onset * FRAME_BYTES) + utterance
    outcome = simulate(plan, ONSET_S + 4, how, behave="talk", call=FULL)
    loud = outcome.loud()
    quiet = (n for n in range(onset, len(loud)) if not any(loud[n : n + SILENT_FRAMES]))
    return outcome, (next(quiet, len(loud)) - onset) * FRAME_MS


def _pause_ms(outcome: Outcome) -> float:
    """The audible gap after the onset."""
    return sum(gap.ms for gap in outcome.phone.gaps if gap.at_s >= ONSET_S)


def _utterances(speech: bytes) -> list[bytes]:
    """Stretches of at least half a second between pauses of 300 ms."""
    frames = [speech[n : n + FRAME_BYTES] for n in range(0, len(speech) - 159, FRAME_BYTES)]
    loud = loudness(b"".join(frames))
    found, begin, quiet = [], None, 0
    for number, is_loud in enumerate([*loud, *[False] * 15]):
        quiet = 0 if is_loud else quiet + 1
        if is_loud and begin is None:
            begin = number
        elif quiet == 15 and begin is not None:
            if number - quiet - begin >= 25:
                found.append(b"".join(frames[begin : number - quiet + 1]))
            begin = None
    return found


# --- Half an hour -----------------------------------------------------------------------------


def _drift(sound: bytes, phone_ppm: int, model_ppm: int) -> dict[str, Any]:
    """Half an hour with jitter on both sides, and clocks that differ."""
    outcome = simulate(
        sound,
        len(sound) / 8000,
        ECHOING,
        call=CallFaults(jitter=Jitter(40), drift_ppm=phone_ppm),
        model=ModelFaults(jitter=Jitter(60), drift_ppm=model_ppm),
    )
    found = [match for match in outcome.echoes(sound) if match.found]
    end_s = len(sound) / 8000
    minutes = [
        median(m.delay_s * 1000 for m in found if begin <= m.at_s < begin + 60)
        for begin in (30, end_s / 2, end_s - 90)
    ]
    return {
        "delay_first_minute_ms": round(minutes[0]),
        "delay_middle_ms": round(minutes[1]),
        "delay_last_minute_ms": round(minutes[2]),
        "gaps": len(outcome.phone.gaps),
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {
        "p50": round(float(p50), 1),
        "p99": round(float(p99), 1),
        "max": round(float(max(values)), 1),
        "n": len(values),
    }
