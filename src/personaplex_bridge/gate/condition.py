"""What is known of the model server: it is being made ready, it is up, or it has failed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from personaplex_bridge import logs
from personaplex_bridge.errors import GateRefusal
from personaplex_bridge.gate.cache import DOWNLOAD_BYTES

LOADING_RETRY_S, FAILED_RETRY_S = 5, 60

_log = logging.getLogger(f"{logs.NAME}.gate")


class Stage(StrEnum):
    """How far a model server that isn't up yet has come."""

    STARTING = "starting"
    DOWNLOADING = "downloading"
    WARMING = "warming"


@dataclass(frozen=True, slots=True)
class Loading:
    """It doesn't take calls yet."""

    stage: Stage = Stage.STARTING
    downloaded_bytes: int = 0

    def __str__(self) -> str:
        """For people."""
        match self.stage:
            case Stage.STARTING:
                return "the model server doesn't answer yet"
            case Stage.DOWNLOADING:
                done, whole = self.downloaded_bytes / 1e9, DOWNLOAD_BYTES / 1e9
                return f"downloading the weights: {done:.1f} of about {whole:.1f} GB"
            case Stage.WARMING:
                return "the weights are there, the model is being loaded and warmed up"


@dataclass(frozen=True, slots=True)
class Up:
    """It takes calls."""

    def __str__(self) -> str:
        """For people."""
        return "the model server is up"


@dataclass(frozen=True, slots=True)
class Failed:
    """It won't come up by itself."""

    detail: str

    def __str__(self) -> str:
        """For people."""
        return self.detail


State: TypeAlias = Loading | Up | Failed


class Condition:
    """The state, and whoever waits for its change. Changes of kind or stage are logged."""

    def __init__(self) -> None:
        self.state: State = Loading()
        self._settled = asyncio.Event()

    def set(self, state: State) -> None:
        """It is so now. What has failed stays so."""
        before = self.state
        if isinstance(before, Failed) or state == before:
            return
        self.state = state
        match before, state:
            case _, Failed(detail):
                _log.error("the model has failed: %s", detail)
            case Up(), Loading():
                _log.warning("the model server doesn't answer any more")
            case (Loading(stage), Loading(other)) if stage == other:
                pass
            case _:
                _log.info("%s", state)
        if not isinstance(state, Loading):
            self._settled.set()

    async def settled(self) -> None:
        """Wait until it is up or has failed, for the first time."""
        await self._settled.wait()

    def refuse_unless_up(self) -> None:
        """Raises GateRefusal with status 503."""
        match self.state:
            case Loading():
                raise GateRefusal(503, "loading", str(self.state), LOADING_RETRY_S)
            case Failed():
                raise GateRefusal(503, "failed", str(self.state), FAILED_RETRY_S)
