"""`personaplex-bridge call`: one call, or many at once, and what came of them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Protocol

from personaplex_bridge.audio.files import write_wav
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.errors import BridgeError
from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.report import Doing, PhoneReport

SPREAD_S = 1.0
"""Calls made at once begin spread over this time, as real ones would."""


class Phone(Protocol):
    """Makes a call."""

    async def run(self) -> PhoneReport:
        """Make it; raises BridgeError if that can't be."""
        ...


MakePhone = Callable[[CallPlan], Phone]


def twilio_phones() -> MakePhone:
    """Phones whose calls Twilio carries, all of one account."""
    return partial(PhoneCall, account=TwilioAccount())


async def make_calls(plan: CallPlan, number: int, out: Path | None, make_phone: MakePhone) -> int:
    """Make the calls, tell what came of them; the exit code is 1 if any went wrong."""
    outcomes = await asyncio.gather(
        *(
            _make_one(make_phone(_own(plan, index)), SPREAD_S * index / number)
            for index in range(number)
        )
    )
    reports = [outcome for outcome in outcomes if isinstance(outcome, PhoneReport)]
    errors = Counter(str(outcome) for outcome in outcomes if isinstance(outcome, BridgeError))
    for message, times in errors.items():
        print(f"{times} call(s) failed: {message}")
    if out is not None:
        _write_heard(out, reports, plan.audio_format)
    for line in _summary(reports, plan.audio_format):
        print(line)
    return 0 if sum(_went_well(report) for report in reports) == number else 1


def _went_well(report: PhoneReport) -> bool:
    """The caller heard something, and was not cut off by a failure of the other side."""
    ended_well = report.close_code in (None, 1000)
    return report.first_media_s is not None and ended_well and not report.problems


def _write_heard(out: Path, reports: list[PhoneReport], audio_format: AudioFormat) -> None:
    for number, report in enumerate(reports, start=1):
        path = out if len(reports) == 1 else out.with_stem(f"{out.stem}-{number}")
        write_wav(path, bytes(report.heard), audio_format=audio_format)
        print(f"what the caller heard: {path}")


def _own(plan: CallPlan, index: int) -> CallPlan:
    """The plan of one of many calls: each has a jitter of its own."""
    jitter = plan.faults.jitter
    if jitter is None:
        return plan
    own = replace(jitter, seed=jitter.seed + index)
    return replace(plan, faults=replace(plan.faults, jitter=own))


async def _make_one(call: Phone, wait_s: float) -> PhoneReport | BridgeError:
    await asyncio.sleep(wait_s)
    try:
        return await call.run()
    except BridgeError as error:
        return error


def _summary(reports: list[PhoneReport], audio_format: AudioFormat = TELEPHONE) -> list[str]:
    if not reports:
        return []
    lines = [f"{times} call(s): {what}" for what, times in _count(reports).items()]
    heard = [report for report in reports if report.first_media_s is not None]
    if heard:
        received_bytes = sum(report.media_bytes for report in heard)
        lines.append(
            f"sent {sum(report.frames_sent for report in heard)} frames, "
            f"received {received_bytes // audio_format.frame_bytes}; "
            f"first audio after {median(report.first_media_s or 0 for report in heard):.2f} s; "
            f"pauses for want of media: {sum(report.underruns for report in heard)}, "
            f"in the middle of sound: {sum(len(report.gaps) for report in heard)}"
        )
    problems = Counter(problem for report in reports for problem in report.problems)
    lines += [f"Twilio would complain, {times}x: {what}" for what, times in problems.items()]
    return lines + _held(reports) + _said(reports)


def _held(reports: list[PhoneReport]) -> list[str]:
    """How it went for those who had to hold."""
    times_s = [report.held_s for report in reports if report.held_s is not None]
    if not times_s:
        return []
    why = Counter(result for report in reports for result in report.queue_results)
    pieces = sum(len(report.of(Doing.PLAYS)) for report in reports)
    return [
        f"held: {len(times_s)} call(s), {median(times_s):.1f} s at the median, "
        f"{max(times_s):.1f} s at most; "
        f"left the queue by {', '.join(f'{result} ({n}x)' for result, n in why.items())}; "
        f"pieces of hold sound: {pieces}; "
        f"longest silence: {max(report.dead_air_s for report in reports):.2f} s"
    ]


def _said(reports: list[PhoneReport]) -> list[str]:
    """What Twilio's voice said; sentences that differ by a number only, as one."""
    said = [text for report in reports for text in report.said_by_twilio]
    kinds = Counter(re.sub(r"\d+", "N", text) for text in said)
    return [f"Twilio says, {times}x: {kind}" for kind, times in kinds.items()]


def _count(reports: list[PhoneReport]) -> Counter[str]:
    return Counter(report.outcome for report in reports)
