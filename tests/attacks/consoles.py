"""The console, its API, the phone in the browser and the metrics, for those who may not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from personaplex_bridge.console.cookies import COOKIE, LIFETIME_S, Sessions
from personaplex_bridge.simulator.obey import ConnectStream, read_twiml
from tests.attacks import raw
from tests.attacks.pages import BEARER, REBOUND, STRANGER, each
from tests.attacks.raw import Header
from tests.attacks.scene import (
    CALL,
    CONSOLE_TOKEN,
    GUARDED,
    OPEN,
    Scene,
    attack,
    host,
    start,
    webhook,
)
from tests.live.harness import until

LOCAL = ("Host", "127.0.0.1")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
Headers = Callable[[int], list[Header]]
PRIVATE = ("/", "/api/calls", "/api/events", "/api/openapi.json", "/phone", "/phone/options")


def get(target: str, *headers: Header) -> bytes:
    return raw.request("GET", target, headers)


def session(token: str = CONSOLE_TOKEN, age_s: float = 0.0) -> str:
    """The cookie of a session that somebody began so long ago."""
    return Sessions(token, lambda: time.time() - age_s).issue()


def cookie(value: str) -> Header:
    return ("Cookie", f"{COOKIE}={value}")


@attack(
    "console through a tunnel",
    "pages and API of a console without CONSOLE_TOKEN, with a tunnel's headers, one by one",
    settings=OPEN,
)
async def tunnelled(scene: Scene) -> str:
    tunnels = [("X-Forwarded-For", "127.0.0.1"), ("Cf-Ray", "1"), ("Via", "1.1 proxy")]
    asked = [get(path, LOCAL, header) for path in PRIVATE for header in tunnels]
    return await each(scene, *asked, get("/api/calls", host()))


@attack("console by a name that DNS leads here", "`Host: rebound.example:8080`", settings=OPEN)
async def rebound(scene: Scene) -> str:
    return await each(scene, *(get(path, REBOUND) for path in PRIVATE))


@attack("console without a token", "API, events and phone, with nothing", settings=GUARDED)
async def without(scene: Scene) -> str:
    return await each(scene, *(get(path, host()) for path in PRIVATE))


@attack("CONSOLE_TOKEN guessed", "20 tokens, then the right one", settings=GUARDED)
async def guessed(scene: Scene) -> str:
    return await _guess(scene, lambda number: [])


@attack(
    "CONSOLE_TOKEN guessed behind X-Forwarded-For",
    "the same, each with another forged client address",
    settings=GUARDED,
)
async def guessed_from_elsewhere(scene: Scene) -> str:
    return await _guess(scene, lambda number: [("X-Forwarded-For", f"198.51.100.{number}")])


@attack("CONSOLE_TOKEN guessed on the login page", "20 tokens by its form", settings=GUARDED)
async def guessed_by_form(scene: Scene) -> str:
    answers = [
        await scene.ask(
            raw.request("POST", "/console/login", [host(), FORM], b"token=guess-%d" % number)
        )
        for number in range(20)
    ]
    return _counted(answers)


async def _guess(scene: Scene, headers: Headers) -> str:
    answers = []
    for number in range(20):
        wrong = ("Authorization", f"Bearer guess-{number}")
        answers.append(await scene.ask(get("/api/calls", host(), wrong, *headers(number))))
    right = await scene.ask(get("/api/calls", host(), BEARER))
    return f"{_counted(answers)}; the right one: {right}"


@attack(
    "session cookie forged",
    "made up; signed with another token; one that has run out; with a later date; twice as long",
    settings=GUARDED,
)
async def forged_cookie(scene: Scene) -> str:
    mine = session()
    date, dot, rest = mine.partition(".")
    forged = [
        "x",
        "9999999999.x.y",
        session("guessed-console-token"),
        session(age_s=LIFETIME_S + 1),
        f"{int(date) + 3600}{dot}{rest}",
        mine + mine,
        "x" * 4000,
    ]
    right = await scene.ask(get("/api/calls", host(), cookie(mine)))
    assert right.status == 200, right
    return await each(scene, *(get("/api/calls", host(), cookie(one)) for one in forged))


@attack(
    "another site hangs up",
    "a POST to end the call in progress, with the operator's session, from another page",
    settings=GUARDED,
)
async def hang_up(scene: Scene) -> str:
    target, mine = f"/api/calls/{scene.other_call}/hangup", cookie(session())
    strangers = (STRANGER, ("Origin", "null"), ("Sec-Fetch-Site", "cross-site"))
    return await each(
        scene, *(raw.request("POST", target, [host(), mine, one], b"") for one in strangers)
    )


@attack(
    "another site hangs up at a developer's machine",
    "the same, without CONSOLE_TOKEN and so without a session",
    settings=OPEN,
)
async def hang_up_locally(scene: Scene) -> str:
    target = f"/api/calls/{scene.other_call}/hangup"
    strangers = (STRANGER, ("Origin", "null"), ("Sec-Fetch-Site", "cross-site"))
    return await each(scene, *(raw.request("POST", target, [LOCAL, one], b"") for one in strangers))


@attack("another site looks on", "events with the operator's session, from it", settings=GUARDED)
async def look_on(scene: Scene) -> str:
    mine = cookie(session())
    scripts = [STRANGER, ("Sec-Fetch-Site", "cross-site")]
    paths = ("/api/events", "/api/calls")
    return await each(scene, *(get(path, host(), mine, one) for path in paths for one in scripts))


@attack(
    "another site's link into the API",
    "a visit (`Sec-Fetch-Mode: navigate`) from another site to an export, the calls and the events "
    "of a console without CONSOLE_TOKEN",
    settings=OPEN,
)
async def linked(scene: Scene) -> str:
    link = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ]
    paths = ("/api/history/export", "/api/calls", "/api/events")
    return await each(scene, *(get(path, LOCAL, *link) for path in paths))


@attack("another site logs in", "a form with the right token: login CSRF", settings=GUARDED)
async def log_in_elsewhere(scene: Scene) -> str:
    form = f"token={CONSOLE_TOKEN}".encode()
    answer = await scene.ask(raw.request("POST", "/console/login", [host(), FORM, STRANGER], form))
    assert not answer.header("Set-Cookie")
    return f"{answer}, no cookie"


@attack(
    "sent elsewhere after login",
    "`next=//other.example`; `/\\other.example`; `https://other.example`, with the right token",
    settings=GUARDED,
)
async def sent_elsewhere(scene: Scene) -> str:
    places = []
    for to in (
        "//other.example",
        "/%5Cother.example",
        "https://other.example",
        "/%09/other.example",
    ):
        form = f"token={CONSOLE_TOKEN}&next={to}".encode()
        answer = await scene.ask(raw.request("POST", "/console/login", [host(), FORM], form))
        places.append(f"{answer.status} to `{answer.header('Location')}`")
    return "; ".join(dict.fromkeys(places))


@attack(
    "dots below the console",
    "`..`, `%2e%2e` and `..%2f` below static files, calls and history, with the token",
    settings=GUARDED,
)
async def dots(scene: Scene) -> str:
    below = ("/console/static/", "/phone/static/", "/api/calls/", "/api/history/")
    tricks = (
        "../../config.py",
        "%2e%2e/%2e%2e/config.py",
        "..%2f..%2fconfig.py",
        "%00",
        "%5c..%5c",
    )
    return await each(
        scene, *(get(path + trick, host(), BEARER) for path in below for trick in tricks)
    )


@attack(
    "HTML injected",
    "`<script>` as persona, prompt and numbers of a call; what the API tells of it then",
    settings=OPEN,
)
async def html_injected(scene: Scene) -> str:
    words = "<script>alert(1)</script>"
    asked = {"CallSid": CALL, "From": words, "To": words, "persona": words, "text_prompt": words}
    (verb, *_) = read_twiml((await scene.ask(webhook(asked))).body)
    assert isinstance(verb, ConnectStream)
    async with scene.socket(raw.upgrade("/voice/stream", [LOCAL])) as socket:
        socket.send(start(verb.parameters))
        await until(lambda: len(scene.line.bridge.sessions) == 2)
        answer = await scene.ask(get("/api/calls", LOCAL))
        await scene.leave(socket)
    told = [answer.header(name) for name in ("Content-Type", "X-Content-Type-Options")]
    assert "script-src 'self'" in answer.header("Content-Security-Policy")
    assert "<script>" not in answer.body, answer.body
    return f"{answer.status} {', '.join(told)}; `<script>` isn't in it"


@attack(
    "metrics from elsewhere",
    "`/metrics` through a tunnel; with `X-Forwarded-For: 127.0.0.1` as well",
)
async def metrics(scene: Scene) -> str:
    tunnelled = [("X-Forwarded-For", "198.51.100.9")], [("X-Forwarded-For", "127.0.0.1")]
    return await each(scene, *(get("/metrics", LOCAL, *headers) for headers in tunnelled))


def _counted(answers: list[raw.Answer]) -> str:
    kinds = Counter(str(answer) for answer in answers)
    after = {answer.header("Retry-After") for answer in answers} - {""}
    told = f" (Retry-After: {', '.join(sorted(after))})" if after else ""
    return ", ".join(f"{number}x {kind}" for kind, number in kinds.items()) + told
