"""Who calls whom, and what happens in the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.errors import BridgeError
from personaplex_bridge.simulator.faults import NO_CALL_FAULTS, CallFaults
from personaplex_bridge.simulator.route import DIRECT, Route

NO_ACCOUNT = "AC" + "0" * 32


class CallFailed(BridgeError):
    """The call could not be made; the message is what an operator would want to read."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A phone call that is to be made. `speech` is media of its `audio_format`."""

    webhook_url: str
    speech: bytes
    caller: str = "+15550111"
    called: str = "+15550100"
    account_sid: str = NO_ACCOUNT
    auth_token: str | None = field(default=None, repr=False)
    keys: tuple[tuple[float, str], ...] = ()
    """DTMF: (seconds into the stream, digit)."""
    hang_up_after_s: float | None = None
    """Fixed length of the stream; without it the caller hangs up once all is said and heard."""
    quiet_s: float = 2.0
    patience_s: float = 30.0
    """How much longer than their own speech the caller stays at most."""
    message_s: float = 5.0
    """How long the caller speaks if they are asked for a message; 0: not at all."""
    faults: CallFaults = NO_CALL_FAULTS
    route: Route = DIRECT
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What else the first webhook is told: of a softphone, its TwiML App and what it asks for."""
    audio_format: AudioFormat = TELEPHONE
