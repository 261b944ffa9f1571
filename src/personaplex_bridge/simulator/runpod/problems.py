"""Refusals as RunPod writes them: `application/problem+json` with title, status, detail, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web


class Problem(Exception):
    """A request that is refused."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """As an HTTP response."""
        problem: dict[str, object] = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            problem["errors"] = list(self.errors)
        return web.json_response(
            problem,
            status=self.status,
            headers=self.headers,
            content_type="application/problem+json",
        )


def invalid(errors: Sequence[str]) -> Problem:
    """A body or a query that isn't as the contract says."""
    return Problem(422, "Request validation failed.", errors)
