"""Every error this package raises, as one tree.

    BridgeError
    ├── ConfigError            settings are wrong; names each, its value, what is allowed
    ├── PersonaError           a persona can't be used; says which and why
    ├── LocalProtocolError     *we* tried something the protocol forbids: a bug of ours
    ├── MessageError           one message from Twilio or the model is not as the contract says
    ├── AudioError             audio that can't be read or written
    │   ├── OggError           a page or stream that libogg refuses
    │   └── OpusError          a packet that libopus refuses
    ├── StreamError            the Twilio media stream ended the wrong way
    │   └── StreamRefused      it did not prove that it comes from its call's own webhook
    ├── HistoryError           the call history can't do what it is asked to
    │   ├── HistoryUnavailable its database can't be reached, or its packages aren't installed
    │   └── RecordingsStay     calls that should be deleted are kept: their recordings can't be
    ├── GateRefusal            the gate doesn't let a request through: status, reason, detail
    ├── RunPodError            RunPod's API refused a request, or did not answer it
    ├── PodError               a pod can't be had, or did not come up
    ├── TwilioError            Twilio's REST API refused, or did not answer
    ├── NumberError            a phone number can't be pointed, or not be put back
    ├── TunnelError            there is no way from the internet to the bridge
    └── ModelError             the model server failed this call
        ├── ModelBusy          every line to the model servers is taken
        │   └── QueueFull      and as many callers wait for one as may
        ├── ModelUnavailable   no connection: refused, TLS, DNS, HTTP status; all are down
        │   └── LeasesUnavailable   nobody can say who has which server: no Redis
        ├── LeaseLost          the line's server may be another bridge's by now
        ├── HandshakeTimeout   connected, but no 0x00 in time
        └── ModelClosed        the server closed a connection that we wanted to keep

Low layers raise these; only the edges (session, server, command line) turn them into a close
code, a status or a log line.
"""

from __future__ import annotations

from dataclasses import dataclass


class BridgeError(Exception):
    """Base of everything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class WrongValue:
    """A setting, the value it has, and what would be allowed. Secrets are not shown."""

    variable: str
    value: str
    allowed: str

    def __str__(self) -> str:
        """One line for the person who has to mend it."""
        return f"{self.variable}={self.value!r} is not allowed: {self.allowed}"


class ConfigError(BridgeError):
    """One or more settings have values that are not allowed; names every one of them."""

    def __init__(self, *wrong: WrongValue) -> None:
        super().__init__("\n".join(str(value) for value in wrong))
        self.wrong = wrong


class PersonaError(BridgeError):
    """A persona, voice or prompt that the model server would choke on."""


class LocalProtocolError(BridgeError):
    """We are about to break the protocol ourselves."""


class MessageError(BridgeError):
    """One message is malformed. `reason` is a short fixed word, fit for a counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class AudioError(BridgeError):
    """Audio that can't be read or written."""


class OggError(AudioError):
    """Bytes that are no acceptable Ogg stream."""


class OpusError(AudioError):
    """libopus refused a packet or a setting."""


class StreamError(BridgeError):
    """The Twilio media stream did not go as Twilio's contract says. `code` says so to Twilio."""

    def __init__(self, message: str, code: int = 1002) -> None:
        super().__init__(message)
        self.code = code


class StreamRefused(StreamError):
    """A media stream without its own webhook's one-time token. `reason` is fit for a counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"refused: {reason}", 1008)
        self.reason = reason


class HistoryError(BridgeError):
    """The call history can't do what it is asked to; says why."""


class HistoryUnavailable(HistoryError):
    """The history's database can't be reached, or the packages for it are not installed."""


class GateRefusal(BridgeError):
    """A request that the gate doesn't let through. `reason` is a short fixed word, for programs
    and counters; `detail` is for people, and quotes nothing private.
    """

    def __init__(
        self, status: int, reason: str, detail: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class RunPodError(BridgeError):
    """RunPod's API refused a request, or did not answer it; `detail` is its reason in words.

    `status` is None if there was no answer. `errors` names each violation (422). `retry_after` is
    in seconds. `uncertain`: what was asked for may have been done all the same.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        errors: tuple[str, ...] = (),
        retry_after: float | None = None,
        uncertain: bool = False,
    ) -> None:
        said = f"RunPod answers {status}: {detail}" if status else detail
        super().__init__("; ".join((said, *errors)))
        self.status = status
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.uncertain = uncertain


class PodError(BridgeError):
    """A pod that can't be had, did not come up, or isn't there; says what to do."""


class TwilioError(BridgeError):
    """Twilio's REST API refused, or did not answer. `code` is Twilio's own, `status` HTTP's."""

    def __init__(self, message: str, code: int | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @classmethod
    def refused(cls, status: int, code: int | None) -> TwilioError:
        """Says what to do about the usual ones, and where Twilio explains the others."""
        what = _REFUSALS.get(status, "Twilio refused")
        page = "" if code is None else f": error {code}, https://www.twilio.com/docs/errors/{code}"
        return cls(f"{what} (HTTP {status}){page}", code, status)


_REFUSALS = {
    401: "Twilio doesn't take these credentials: look at the TWILIO_ variables",
    403: "Twilio doesn't allow this account or key to do that",
    404: "Twilio has no such number or account",
    429: "Twilio has had too many requests of this account; try again in a minute",
}


class NumberError(BridgeError):
    """A phone number can't be pointed here, or not be put back. Says why, without the number.

    `choices` are for the user's own terminal: the numbers of which one is to be named.
    """

    def __init__(self, message: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.choices = choices


class TunnelError(BridgeError):
    """There is no way from the internet to the bridge; says how to make one."""


class ModelError(BridgeError):
    """The model server failed this call."""


class ModelBusy(ModelError):
    """Every line to the model servers is taken by another call, or others are ahead in line."""


class QueueFull(ModelBusy):
    """As many callers wait in line as may."""


class ModelUnavailable(ModelError):
    """No usable connection to a model server, or every one is known to be down."""


class LeasesUnavailable(ModelUnavailable):
    """The store of leases can't be reached: nobody can say which server is free."""


class LeaseLost(ModelError):
    """The lease of a model server ran out, or is another bridge's: nothing may be sent to it."""


class HandshakeTimeout(ModelError):
    """The model server accepted the connection but never said it was ready."""


class ModelClosed(ModelError):
    """The model server ended a connection that we wanted to keep. `code` is its close code."""

    def __init__(self, code: int, reason: str = "") -> None:
        text = f"model server closed the connection with code {code}"
        # The reason may be the server's: quoted, so that it can't forge a line of a log.
        super().__init__(f"{text}: {reason[:80]!r}" if reason else text)
        self.code = code
