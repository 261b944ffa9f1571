"""The console's pages: files of ours, as they are, and the login page, which does without scripts.

Its one script keeps what stands behind the # of an address (login.js).
"""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import web

from personaplex_bridge.console.access import LOGIN_PATH, WRONG_TOKEN, ConsoleAccess
from personaplex_bridge.console.bodies import read_body
from personaplex_bridge.console.problems import Problem, refused

STATIC_PATH = "/console/static/"
LOGOUT_PATH = "/console/logout"
DOCS_PATH = "/api/docs"

MAX_LOGIN_FIELDS = 10

_FILES = Path(__file__).parent / "static"

_PAGES = {"/": "console.html", DOCS_PATH: "docs.html"}


class Pages:
    """The routes of pages, and of what they are made of."""

    def __init__(self, access: ConsoleAccess) -> None:
        self._access = access
        self._login = (_FILES / "login.html").read_text("utf-8")

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes to an application's."""
        for path in _PAGES:
            router.add_get(path, self.show)
        # For anybody: there is nothing in them, and the login page needs its looks.
        router.add_static(STATIC_PATH, _FILES)
        if self._access.asks_for_token:
            router.add_get(LOGIN_PATH, self.ask)
            router.add_post(LOGIN_PATH, self.log_in)
            router.add_post(LOGOUT_PATH, self.log_out)

    async def show(self, request: web.Request) -> web.FileResponse:
        """A page, to those who may."""
        try:
            self._access.check(request)
        except Problem as problem:
            raise _in_words(problem) from None
        return web.FileResponse(_FILES / _PAGES[request.path])

    async def ask(self, request: web.Request) -> web.Response:
        """The login page."""
        return self._login_page(request.query.get("next", "/"))

    async def log_in(self, request: web.Request) -> web.Response:
        """The login page's form: on to where they wanted to go, or the page again."""
        try:
            body = (await read_body(request)).decode("utf-8")
            form = dict(parse_qsl(body, max_num_fields=MAX_LOGIN_FIELDS))
        except ValueError:
            raise refused(400, "no readable form") from None
        to = _own_path(form.get("next", "/"))
        try:
            response = self._access.log_in(request, form.get("token", "").strip())
        except Problem as problem:
            return self._login_page(to, problem)
        response.headers["Location"] = to
        return response

    async def log_out(self, request: web.Request) -> web.Response:
        """The end of a session."""
        return self._access.log_out(request)

    def _login_page(self, to: str, problem: Problem | None = None) -> web.Response:
        why = "" if problem is None else _SAID.get(problem.detail, _sentence(problem.detail))
        page = self._login.replace("{{next}}", html.escape(_own_path(to)))
        page = page.replace("{{error}}", html.escape(why))
        headers = (
            {}
            if problem is None
            else {
                name: problem.headers[name] for name in ("Retry-After",) if name in problem.headers
            }
        )
        status = 200 if problem is None else problem.status
        return web.Response(text=page, status=status, headers=headers, content_type="text/html")


_SAID = {WRONG_TOKEN: "That is not the token. It is CONSOLE_TOKEN in the bridge's settings."}


def _sentence(detail: str) -> str:
    """A problem's detail, for people."""
    return f"{detail[:1].upper()}{detail[1:]}."


def _own_path(to: str) -> str:
    """A path of this site; the console for anything else."""
    is_ours = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return to if is_ours and to.isascii() else "/"


def _in_words(problem: Problem) -> Problem:
    """For people: plain text instead of JSON."""
    problem.text = problem.detail + "\n"
    problem.content_type = "text/plain"
    return problem
