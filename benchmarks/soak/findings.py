"""What came of the calls: both ends of each put together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bad_models import number_in
from benchmarks.delays import differences_ms, percentiles
from benchmarks.soak.phones import OVER, Made
from benchmarks.stalls import STALL_S

LEFT = "client left with 1000"
"""How a good session with the model ends."""
CUT_OFF_MS = 60.0
"""One frame may be on its way when the caller hangs up. If the last that arrived came later than
this, it was another's place that it took: one was lost before.
"""

LONG_S = 10.0
"""Calls are compared with calls alike: short ones with short ones, and those whose phone was late
(a sign of what the machine did meanwhile) with those whose phone was as late."""
LATE_MS = (2.5, 5, 7.5, 10, 15, 20, 30)

Stall = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Finding:
    """One call that no fault was injected into. Frames are the model's: 80 ms."""

    made: Made
    heard: int | None
    """By the model. None: which session was this call's isn't known, or it had not just one."""
    said: int | None
    lost: int
    """Sent or said by one side, and not received by the other."""
    doubled: int
    """Received by one side, and not sent or said by the other: made up, or twice."""
    problems: tuple[str, ...]
    uplink_ms: list[float] = field(default_factory=list)
    downlink_ms: list[float] = field(default_factory=list)
    heard_at: Sequence[float] = ()
    """When the model heard its frames."""

    @property
    def is_affected(self) -> bool:
        """Whether anything was not as it should be."""
        return bool(self.lost or self.doubled or self.made.gaps or self.problems)


def find(made: Made, sessions: Sequence[dict[str, Any]]) -> Finding:
    """Compare what the phone and the model know of a call."""
    sent, problems = made.sent // 4, list(made.problems)
    if made.outcome != OVER:
        problems.append(made.outcome)
    if made.call.is_usual:  # nothing in its prompt tells the model's sessions apart
        off = int(sent - made.received)
        return Finding(made, None, None, max(0, off - 2), max(0, -off), tuple(problems))
    if len(sessions) != 1:
        problems.append(f"{len(sessions)} sessions with the model instead of one")
        return Finding(made, None, None, 0, 0, tuple(problems))
    [session] = sessions
    if session["ended"] != LEFT:
        problems.append(f"the model's session: {session['ended']}")
    heard_at, said_at = session["heard_at"], session["said_at"]
    up = _Way(sent, len(heard_at), differences_ms(made.completing_at, heard_at))
    down = _Way(len(said_at), made.received, differences_ms(said_at, made.media_at))
    return Finding(
        made,
        len(heard_at),
        len(said_at),
        up.lost + down.lost,
        up.doubled + down.doubled,
        tuple(problems),
        # Frames are paired by their place: right only if none was left out or put in.
        up.delays_ms if up.is_whole else [],
        down.delays_ms if down.is_whole and len(made.media_at) == made.received else [],
        heard_at,
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction: frames given and received, and the delays if they are paired in order."""

    given: int
    received: float
    delays_ms: list[float]

    @property
    def lost(self) -> int:
        cut_off = bool(self.delays_ms) and self.delays_ms[-1] < CUT_OFF_MS
        return max(0, int(self.given - self.received) - cut_off)

    @property
    def doubled(self) -> int:
        return max(0, int(self.received - self.given))

    @property
    def is_whole(self) -> bool:
        return self.lost == self.doubled == 0


@dataclass(frozen=True, slots=True)
class Alike:
    """Calls of one kind that can be compared."""

    judged: int = 0
    affected: int = 0
    ran_dry: int = 0
    """Those with underruns."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A run's calls without faults, put together; those with, by fault."""

    calls: int
    judged: int
    """Of these, those in which neither the machine nor a measuring program stood still."""
    affected: int
    lost: int
    doubled: int
    gaps: int
    problems: dict[str, int]
    underruns: int
    underrun_calls: int
    sent: int
    heard: int
    said: int
    received: int
    uplink_ms: dict[str, float] | None
    downlink_ms: dict[str, float] | None
    phone_late_ms: dict[str, float] | None
    alike: dict[str, Alike]
    """The judged ones, by kind."""
    unjudged_affected: int
    affected_calls: list[dict[str, Any]]
    """Each of the judged ones, for whoever wants to know what happened to it; from the first
    call's beginning."""
    faults: dict[str, dict[str, int]]
    """How calls with each fault ended, and how often."""
    hung: int

    @property
    def faulty(self) -> int:
        """How many calls a fault was injected into."""
        return sum(sum(outcomes.values()) for outcomes in self.faults.values())


def figures(
    all_made: Iterable[Made], sessions: Iterable[dict[str, Any]], stalls: Sequence[Stall]
) -> Figures:
    """Put a run's calls together."""
    of_call = defaultdict[int | None, list[dict[str, Any]]](list)
    for session in sessions:
        of_call[number_in(session["prompt"])].append(session)
    faults = defaultdict[str, Counter[str]](Counter)
    findings, hung = [], 0
    for made in all_made:
        hung += made.outcome.startswith("HUNG")
        if made.call.fault is not None:
            faults[made.call.fault][made.outcome] += 1
        else:
            findings.append(find(made, of_call[made.call.number]))
    calm = [one for one in findings if _is_calm(one.made, stalls)]
    troubled = [one for one in findings if not _is_calm(one.made, stalls)]
    first_s = min((one.made.began_s for one in findings), default=0.0)
    known = [one for one in calm if one.heard is not None and one.said is not None]
    return Figures(
        calls=len(findings),
        judged=len(calm),
        affected=sum(one.is_affected for one in calm),
        lost=sum(one.lost for one in calm),
        doubled=sum(one.doubled for one in calm),
        gaps=sum(one.made.gaps for one in calm),
        problems=dict(Counter(problem for one in calm for problem in one.problems)),
        underruns=sum(one.made.underruns for one in calm),
        underrun_calls=sum(one.made.underruns > 0 for one in calm),
        sent=sum(one.made.sent // 4 for one in known),
        heard=sum(one.heard or 0 for one in known),
        said=sum(one.said or 0 for one in known),
        received=int(sum(one.made.received for one in known)),
        uplink_ms=percentiles([ms for one in calm for ms in one.uplink_ms]),
        downlink_ms=percentiles([ms for one in calm for ms in one.downlink_ms]),
        phone_late_ms=percentiles([one.made.late_ms for one in findings]),
        alike=_by_kind(calm),
        unjudged_affected=sum(one.is_affected for one in troubled),
        affected_calls=[_told(one, first_s) for one in calm if one.is_affected],
        faults={fault: dict(outcomes) for fault, outcomes in sorted(faults.items())},
        hung=hung,
    )


def _told(finding: Finding, first_s: float) -> dict[str, Any]:
    made = finding.made
    delays_ms = differences_ms(made.completing_at, finding.heard_at) if finding.heard_at else []
    return {
        "number": made.call.number,
        "began_s": round(made.began_s - first_s, 2),
        "length_s": round(made.ended_s - made.began_s, 2),
        "is_usual": made.call.is_usual,
        "lost_up": max(0, made.sent // 4 - finding.heard) if finding.heard is not None else None,
        "lost": finding.lost,
        "doubled": finding.doubled,
        "gaps": made.gaps,
        "underruns": made.underruns,
        "problems": list(finding.problems),
        "phone_late_ms": round(made.late_ms, 1),
        "first_uplink_ms": round(delays_ms[0], 1) if delays_ms else None,
        "worst_uplink_ms": round(max(delays_ms), 1) if delays_ms else None,
    }


def _by_kind(findings: Sequence[Finding]) -> dict[str, Alike]:
    kinds = defaultdict[str, list[Finding]](list)
    for one in findings:
        length = "long" if one.made.call.length_s > LONG_S else "short"
        late_ms = next((f"under {ms:g} ms" for ms in LATE_MS if one.made.late_ms < ms), "more")
        kinds[f"{length}, phone late by {late_ms}"].append(one)
    return {
        kind: Alike(
            len(those),
            sum(one.is_affected for one in those),
            sum(one.made.underruns > 0 for one in those),
        )
        for kind, those in sorted(kinds.items())
    }


def _is_calm(made: Made, stalls: Sequence[Stall]) -> bool:
    """Whether what happened in a call can be blamed on the bridge: nothing else stood still."""
    if made.late_ms >= STALL_S * 1000:
        return False
    return not any(from_s < made.ended_s and to_s > made.began_s for from_s, to_s in stalls)
