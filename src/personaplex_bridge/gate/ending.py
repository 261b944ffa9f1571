"""How a session ends: who ended it, and what the client is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import WebSocketError, WSCloseCode

NORMAL, GOING_AWAY, ABNORMAL, FAILED = 1000, 1001, 1006, 1011
"""Close codes (RFC 6455, section 7.4.1)."""


class By(StrEnum):
    """Who ended it."""

    CLIENT = "client"
    MODEL = "model"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a session. `code` and `reason` are for the client, if it is still there."""

    by: By
    reason: str
    code: int = FAILED


class SessionOver(Exception):
    """Ends the loops of a session."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


def client_left(code: int | None, fault: WebSocketError | None = None) -> Ending:
    """The client closed with this code, or its connection is gone (1006), or it sent what is no
    acceptable message.
    """
    if fault is not None:
        return Ending(By.CLIENT, _told(By.CLIENT, fault), fault.code)
    if code is None or code == ABNORMAL:
        return Ending(By.CLIENT, "client's connection was lost", ABNORMAL)
    return Ending(By.CLIENT, "client left" if code == NORMAL else f"client left with {code}", code)


def model_left(code: int | None, fault: WebSocketError | None, *, is_ready: bool) -> Ending:
    """The same of the model. 1000 passes on, anything else is a failure to the client."""
    if fault is not None:
        return Ending(By.MODEL, _told(By.MODEL, fault))
    if code == NORMAL:
        return Ending(By.MODEL, "the model closed with 1000", NORMAL)
    when = "" if is_ready else " before its handshake"
    if code is None or code == ABNORMAL:
        return Ending(By.MODEL, f"the model's connection was lost{when}")
    return Ending(By.MODEL, f"the model closed with {code}{when}")


def _told(by: By, fault: WebSocketError) -> str:
    too_long = fault.code == WSCloseCode.MESSAGE_TOO_BIG
    what = "a message that is too long" if too_long else f"no WebSocket message ({fault.code})"
    return f"{by} sent {what}"
