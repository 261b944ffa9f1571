"""Errors of the API, as RFC 9457 has them: `application/problem+json`."""

from __future__ import annotations

import json
from http import HTTPStatus

from aiohttp import web

from personaplex_bridge.observing import Refused
from personaplex_bridge.web.observed import REFUSED

PROBLEM_TYPE = "application/problem+json"


class Problem(web.HTTPException):
    """An error with a status, and in plain words what is wrong and what to do about it."""

    status_code = 500

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        self.status_code = status
        body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(text=json.dumps(body), headers=names, content_type=PROBLEM_TYPE)
        self.detail = detail


def refused(status: int, detail: str, **headers: str) -> Problem:
    """An error that metrics count as somebody who may not use the console."""
    problem = Problem(status, detail, **headers)
    problem[REFUSED] = Refused.CONSOLE
    return problem


def as_problem(error: web.HTTPException) -> web.HTTPException:
    """The same error as a problem; what isn't an error, or is one already, as it is."""
    if isinstance(error, Problem) or error.status < HTTPStatus.BAD_REQUEST:
        return error
    headers = {
        name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers
    }
    problem = Problem(error.status, _DETAILS.get(error.status, error.reason), **headers)
    if REFUSED in error:
        problem[REFUSED] = error[REFUSED]
    return problem


_DETAILS = {
    404: "there is nothing at this path; see /api/docs",
    405: "this path has other methods; see /api/docs",
    413: "the body is longer than MAX_BODY_BYTES",
}
