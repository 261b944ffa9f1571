"""A call as the page at /phone makes it: no webhook, no Twilio, and HD if that is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.simulator.media import PhoneStream
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.simulator.report import PhoneReport

CALLS_PATH = "/phone/calls"


class BrowserPhone:
    """One call. `run` it once; `report` fills while it runs.

    Of the plan's `webhook_url` it takes scheme and host, as the page's origin, and the query, for
    `persona`, `voice` and `text_prompt`. `console_token` is for bridges that ask for one.
    """

    def __init__(
        self, plan: CallPlan, clock: Clock = SYSTEM_CLOCK, console_token: str | None = None
    ) -> None:
        self.report = PhoneReport(call_sid="")
        url = urlsplit(plan.webhook_url)
        self._origin = f"{url.scheme}://{url.netloc}"
        self._asked = {**dict(parse_qsl(url.query)), "sound": plan.audio_format.name}
        self._headers = {"Origin": self._origin}
        if console_token is not None:
            self._headers["Authorization"] = f"Bearer {console_token}"
        self._plan = plan
        self._clock = clock

    async def run(self) -> PhoneReport:
        """Make the call.

        Raises:
            CallFailed: the bridge can't be reached, or doesn't let the call in.
        """
        async with aiohttp.ClientSession() as http:
            granted = await self._reserve(http)
            self.report.call_sid = granted["call_sid"]
            plan = dataclasses.replace(self._plan, account_sid=granted["account_sid"])
            stream = PhoneStream(plan, self.report, self._clock, granted["stream_sid"])
            await stream.run(
                http,
                granted["stream_url"],
                granted["parameters"],
                {"Origin": self._origin},
                granted["protocols"],
            )
        return self.report

    async def _reserve(self, http: aiohttp.ClientSession) -> Mapping[str, Any]:
        url = self._origin + CALLS_PATH
        try:
            async with http.post(url, json=self._asked, headers=self._headers) as answer:
                told: dict[str, Any] = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"no answer at {url}: {error}") from error
        if answer.status != 201:
            raise CallFailed(f"{url} answers {answer.status}: {told.get('detail', 'no reason')}")
        return told
