"""One request to RunPod's API: deadline, retries, errors in words.

Errors are `application/problem+json`: title, status, detail, errors. 429 carries Retry-After in
whole seconds. Redirects are not followed: the key goes to one host only.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import aiohttp

from personaplex_bridge import logs
from personaplex_bridge.errors import RunPodError
from personaplex_bridge.values import LOOPBACK_HOSTS

MAX_ANSWER_BYTES = 16 << 20
"""The catalogue and an account's pods are well below."""

Query: TypeAlias = Mapping[str, str]

_HINTS = {
    401: ": RUNPOD_API_KEY is not a valid key",
    403: ": RUNPOD_API_KEY may not do this, or the account has no access",
}

_log = logging.getLogger(f"{logs.NAME}.runpod")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try. All in seconds, but `attempts`."""

    request_s: float = 30.0
    """For one request."""

    attempts: int = 6
    total_s: float = 300.0
    """For all attempts and the pauses between them. A longer Retry-After isn't waited for."""

    first_pause_s: float = 1.0
    """After the first failure; doubles each time."""

    longest_pause_s: float = 30.0

    def pause_s(self, attempt: int, error: RunPodError) -> float:
        """How long to wait after this attempt, counted from 1."""
        if error.retry_after is not None:
            return error.retry_after
        return min(self.first_pause_s * 2.0 ** (attempt - 1), self.longest_pause_s)


class Requests:
    """Requests with a key, over one aiohttp session. An async context manager.

    `tell` gets a line whenever a request has to wait or be repeated.
    """

    def __init__(
        self,
        key: str,
        url: str,
        patience: Patience = Patience(),
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self.tell = tell
        self._key = key
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            headers={
                "Authorization": f"Bearer {self._key}",
                "User-Agent": "personaplex-bridge",
            },
            trust_env=urlsplit(self.url).hostname not in LOOPBACK_HOSTS,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        """The session; only inside the `async with` block."""
        if self._http is None:
            raise RuntimeError("use `async with`")
        return self._http

    async def repeat(
        self, method: str, path: str, query: Query | None = None, body: Any = None
    ) -> Any:
        """The answer's JSON (None for 204) to what may safely be asked twice.

        An error that comes after an attempt whose outcome is unknown is marked `uncertain`.

        Raises:
            RunPodError: it was refused, or not answered in time, however often it was tried.
        """
        uncertain = False
        deadline = asyncio.get_running_loop().time() + self.patience.total_s
        attempt = 1
        while True:
            try:
                return await self.once(method, path, query, body)
            except RunPodError as error:
                uncertain = error.uncertain = uncertain or error.uncertain
                if not may_pass(error):
                    raise
                await self.wait(attempt, error, deadline)
            attempt += 1

    async def wait(self, attempt: int, error: RunPodError, deadline: float) -> None:
        """Pause before the next attempt, or raise the error: tried often or long enough."""
        pause_s = self.patience.pause_s(attempt, error)
        left_s = deadline - asyncio.get_running_loop().time()
        if attempt >= self.patience.attempts or pause_s > left_s:
            raise error
        self.tell(f"{error}; trying again in {pause_s:.3g} s")
        await asyncio.sleep(pause_s)

    async def once(
        self, method: str, path: str, query: Query | None = None, body: Any = None
    ) -> Any:
        """The same, tried once."""
        timeout = aiohttp.ClientTimeout(total=self.patience.request_s)
        try:
            async with self.http.request(
                *(method, f"{self.url}{path}"),
                params=query,
                json=body,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                await self.refuse(response)
                text = await _read(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.no_answer(error, method != "GET") from error
        return _parsed(text, response.status)

    def no_answer(self, error: Exception, uncertain: bool = False) -> RunPodError:
        """The error for a connection that failed."""
        # Nothing was sent on a connection that was never made.
        uncertain = uncertain and not isinstance(error, aiohttp.ClientConnectorError)
        why = self._hidden(str(error)) or "too late"
        return RunPodError(f"no answer from {self.url}: {why}", uncertain=uncertain)

    async def refuse(self, response: aiohttp.ClientResponse) -> None:
        """Raise the error that a response is, if it is one."""
        status = response.status
        if 200 <= status < 300:
            return
        problem = _problem(await _read(response))
        detail = problem.get("detail") or problem.get("title") or _phrase(status)
        raise RunPodError(
            self._hidden(f"{detail}{_HINTS.get(status, '')}"),
            status=status,
            errors=tuple(self._hidden(str(violation)) for violation in _violations(problem)),
            retry_after=_seconds(response.headers.get("Retry-After")),
            uncertain=status >= 500 and response.method != "GET",
        )

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "(hidden)") if self._key else text


def may_pass(error: RunPodError) -> bool:
    """Whether the same request may get a better answer later."""
    return error.status is None or error.status == 429 or error.status >= 500


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for piece in response.content.iter_chunked(1 << 16):
        text += piece
        if len(text) > MAX_ANSWER_BYTES:
            raise RunPodError(f"an answer of more than {MAX_ANSWER_BYTES} bytes", status=502)
    return bytes(text)


def _parsed(text: bytes, status: int) -> Any:
    if status == HTTPStatus.NO_CONTENT:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise RunPodError("an answer that is no JSON", status=status) from error


def _problem(text: bytes) -> Mapping[str, Any]:
    try:
        problem = json.loads(text)
    except ValueError:  # a proxy's page, say
        return {}
    return problem if isinstance(problem, dict) else {}


def _violations(problem: Mapping[str, Any]) -> list[Any]:
    errors = problem.get("errors")
    return errors[:20] if isinstance(errors, list) else []


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an unknown status"


def _seconds(header: str | None) -> float | None:
    """Whole seconds (the contract's form); None for anything else."""
    return float(header) if header and header.isascii() and header.isdigit() else None
