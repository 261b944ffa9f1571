"""What a page of another site has somebody's browser ask of a bridge."""

from __future__ import annotations

import asyncio
import json

from personaplex_bridge.web.access import BROWSER_PROTOCOL
from personaplex_bridge.web.paths import WEBHOOK_PATH
from personaplex_bridge.web.tickets import LIFETIME_S
from tests.attacks import raw
from tests.attacks.raw import Header
from tests.attacks.scene import (
    CONSOLE_TOKEN,
    GUARDED,
    OPEN,
    OTHER_CALL,
    PUBLIC,
    Scene,
    attack,
    host,
    signed,
    upgrade,
    webhook,
)
from tests.attacks.who import STREAM_URL

STRANGER = ("Origin", "https://other.example")
ORIGIN = ("Origin", PUBLIC)
REBOUND = ("Host", "rebound.example:8080")
BEARER = ("Authorization", f"Bearer {CONSOLE_TOKEN}")


async def each(scene: Scene, *requests: bytes) -> str:
    """The answers to several, each kind once."""
    answers = [str(await scene.ask(data)) for data in requests]
    return "; ".join(dict.fromkeys(answers))


@attack(
    "another site's WebSocket",
    "a page of `https://other.example` opens the media socket of a bridge without a token",
    settings=OPEN,
)
async def strange_socket(scene: Scene) -> str:
    return await scene.refusal(upgrade(STRANGER))


@attack("another site's form", "it posts a webhook, to a bridge without a token", settings=OPEN)
async def strange_form(scene: Scene) -> str:
    return await each(scene, webhook(headers=[STRANGER]), webhook(headers=[("Origin", "null")]))


@attack("another site's picture", "`<img src>` of a webhook: a GET without Origin", settings=OPEN)
async def strange_picture(scene: Scene) -> str:
    target = f"{WEBHOOK_PATH}?CallSid={OTHER_CALL}"
    sent = [("Host", "127.0.0.1"), ("Sec-Fetch-Site", "cross-site")]
    return str(await scene.ask(raw.request("GET", target, sent)))


@attack(
    "a name that DNS leads here",
    "`rebound.example`: a GET, a POST and a WebSocket of its own page, to a bridge without a token",
    settings=OPEN,
)
async def rebound(scene: Scene) -> str:
    own = ("Origin", "http://rebound.example:8080")
    get = raw.request("GET", f"{WEBHOOK_PATH}?CallSid={OTHER_CALL}", [REBOUND])
    post = raw.request("POST", WEBHOOK_PATH, [REBOUND, own], b"CallSid=CA1")
    socket = raw.upgrade("/voice/stream", [REBOUND, own])
    return f"{await each(scene, get, post)}; the socket: {await scene.refusal(socket)}"


@attack("signed, from another site's page", "a media socket that Twilio has signed, with an Origin")
async def signed_with_origin(scene: Scene) -> str:
    return await scene.refusal(upgrade(signed(STREAM_URL, {}), STRANGER))


async def granted(scene: Scene) -> tuple[str, str, str]:
    """What a page of ours gets that calls: the subprotocols to offer."""
    headers = [host(), BEARER, ORIGIN, ("Content-Type", "application/json")]
    answer = await scene.ask(raw.request("POST", "/phone/calls", headers, b"{}"))
    assert answer.status == 201, answer
    protocol, call_sid, token = json.loads(answer.body)["protocols"]
    assert protocol == BROWSER_PROTOCOL
    return protocol, call_sid, token


def browsers(protocols: tuple[str, ...], origin: Header = ORIGIN) -> bytes:
    """A browser's media socket."""
    return upgrade(("Sec-WebSocket-Protocol", ", ".join(protocols)), origin)


async def accepted(scene: Scene, protocols: tuple[str, ...]) -> str:
    """Whether the page's own media socket can still be opened."""
    async with scene.socket(browsers(protocols)):
        return "the page's own: 101"


@attack(
    "replayed pass", "a browser's media socket once more, the first being open", settings=GUARDED
)
async def replayed_pass(scene: Scene) -> str:
    pass_ = await granted(scene)
    async with scene.socket(browsers(pass_)):
        return await scene.refusal(browsers(pass_))


@attack("pass of another call", "a browser's media socket, its CallSid changed", settings=GUARDED)
async def pass_of_another_call(scene: Scene) -> str:
    protocol, call_sid, token = await granted(scene)
    refusal = await scene.refusal(browsers((protocol, OTHER_CALL, token)))
    return f"{refusal}; {await accepted(scene, (protocol, call_sid, token))}"


@attack("pass on another page", "a browser's media socket, from another site", settings=GUARDED)
async def pass_elsewhere(scene: Scene) -> str:
    pass_ = await granted(scene)
    refusal = await scene.refusal(browsers(pass_, STRANGER))
    return f"{refusal}; {await accepted(scene, pass_)}"


@attack("expired pass", "a browser's media socket after 61 s", settings=GUARDED, lasts_s=63.0)
async def expired_pass(scene: Scene) -> str:
    pass_ = await granted(scene)
    await asyncio.sleep(LIFETIME_S + 1)
    return await scene.refusal(browsers(pass_))


@attack("guessed pass", "a browser's media socket with a pass that looks right", settings=GUARDED)
async def guessed_pass(scene: Scene) -> str:
    protocol, call_sid, _ = await granted(scene)
    return await scene.refusal(browsers((protocol, call_sid, "once_" + "x" * 43)))
