"""Who calls whom. Numbers are people's: what is kept or shown of a call has them masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from personaplex_bridge.clock import SYSTEM_CLOCK, Clock

REMEMBERED_S = 600.0
"""From a webhook to its stream: Twilio opens it at once. Who holds is noted anew all the time."""

MAX_CALLS = 10_000
"""The oldest are forgotten."""

BROWSER = "browser"
"""The caller of a call that a page of ours makes: nobody's number, so it is shown as it is."""

HIDDEN = "***"
_HEAD, _TAIL, _LEAST_HIDDEN = 3, 2, 3


@dataclass(frozen=True, slots=True)
class Parties:
    """The two ends of a call, as Twilio names them: E.164 numbers, SIP addresses, or words such as
    `anonymous`; empty if it didn't. Private.
    """

    caller: str = field(default="", repr=False)
    called: str = field(default="", repr=False)
    is_outbound: bool = False
    """Whether we have called them."""

    @property
    def person(self) -> str:
        """The one who isn't us."""
        return self.called if self.is_outbound else self.caller


class Callers:
    """The parties of calls whose streams are to come, by CallSid."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._calls: dict[str, tuple[float, Parties]] = {}  # the oldest first

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._calls)

    def note(self, asked: Mapping[str, str]) -> None:
        """Remember whose call a webhook is of, by its parameters."""
        call_sid, now_s = asked.get("CallSid", ""), self._clock.now()
        if not call_sid:
            return
        self._calls.pop(call_sid, None)
        self._forget(now_s)
        outbound = asked.get("Direction", "").startswith("outbound")
        parties = Parties(asked.get("From", ""), asked.get("To", ""), outbound)
        self._calls[call_sid] = now_s, parties

    def of(self, call_sid: str) -> Parties:
        """The parties of a call; without names, if no webhook has told."""
        return self._calls.get(call_sid, (0.0, Parties()))[1]

    def _forget(self, now_s: float) -> None:
        """Make room for one more."""
        while self._calls:
            call_sid, (noted_s, _) = next(iter(self._calls.items()))
            if len(self._calls) < MAX_CALLS and now_s - noted_s <= REMEMBERED_S:
                return
            del self._calls[call_sid]


def masked(party: str) -> str:
    """A number or an address as it may be shown: `+155***11`, `sip:***`, `***`; `browser` as it is.

    Enough to tell callers apart in a list, and too little to try out whose number it is: of one
    with eleven digits a million would fit. At least three digits are hidden, whatever its length.
    """
    if party == BROWSER:
        return party
    number = re.fullmatch(r"\+(\d{3,15})", normal(party), re.ASCII)
    if number is None:
        scheme, colon, _ = party.partition(":")
        known = colon and scheme.lower() in ("sip", "sips", "client")
        return f"{scheme.lower()}:{HIDDEN}" if known else HIDDEN if party else ""
    digits = number[1]
    shown = len(digits) - _LEAST_HIDDEN
    tail = min(_TAIL, shown // 2)
    head = min(_HEAD, shown - tail)
    return f"+{digits[:head]}{HIDDEN}{digits[len(digits) - tail :]}"


def normal(party: str) -> str:
    """The same party always as the same text: `+1 (555) 010-0111` is +15550100111."""
    plain = party.strip()
    if re.fullmatch(r"\+?[\d\s().-]+", plain, re.ASCII):
        digits = re.sub(r"\D", "", plain)
        return f"+{digits}" if digits else ""
    return plain.casefold()
