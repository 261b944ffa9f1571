"""A call history of two calls, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personaplex_bridge.console.past import PastSearch


class Shelf:
    """A history with two calls."""

    CALLS = (
        {
            "id": "018f000000000001",
            "call_sid": "CA" + "1" * 32,
            "persona": "noir",
            "caller": "+155***11",
            "started_at": "2030-01-31T12:00:00.000Z",
            "duration_s": 83.2,
            "outcome": "hung-up",
            "model_failed": False,
            "turns": 9,
            "turn_delay_s": 0.41,
            "barge_ins": 2,
            "failures": 0,
            "handshake_s": 0.02,
            "gaps": 0,
            "ended_reason": "the caller hung up",
        },
        {
            "id": "018f000000000002",
            "call_sid": "CA" + "2" * 32,
            "persona": "assistant",
            "caller": "",
            "started_at": "2030-01-31T11:00:00.000Z",
            "duration_s": 5.0,
            "outcome": "model-failed",
            "model_failed": True,
            "turns": 0,
            "turn_delay_s": None,
            "barge_ins": 0,
            "failures": 1,
            "handshake_s": None,
            "gaps": 0,
            "ended_reason": "connection refused",
        },
    )

    async def search(self, search: PastSearch) -> Mapping[str, Any]:
        fits = [one for one in self.CALLS if search.text in ("", one["persona"])]
        return {"calls": fits, "next": None}

    async def call(self, call_id: str) -> Mapping[str, Any] | None:
        for one in self.CALLS:
            if one["id"] == call_id:
                said = [{"at_s": 1.5, "text": "The rain had not stopped since Tuesday."}]
                events = [{"at_s": 0.0, "kind": "start"}, {"at_s": 83.2, "kind": "end"}]
                figures = {"caller_frames": 4160}
                return {**one, "transcript": said, "events": events, "figures": figures}
        return None
