"""Webhooks and upgrades that aren't Twilio's, or not for this bridge."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

from personaplex_bridge.simulator.obey import ConnectStream, read_twiml
from personaplex_bridge.web.paths import (
    AFTER_PATH,
    FORWARDED_PATH,
    QUEUED_PATH,
    RECORDED_PATH,
    STREAM_PATH,
    WAIT_PATH,
    WEBHOOK_PATH,
)
from tests.attacks.raw import Answer, Header
from tests.attacks.scene import (
    BALANCER,
    FORM,
    NEXT_TOKEN,
    OLD_TOKEN,
    OPEN,
    PUBLIC,
    SETTINGS,
    WRONG_TOKEN,
    Scene,
    attack,
    signed,
    signed_upgrade,
    signed_webhook,
    start,
    upgrade,
    webhook,
)

URL = PUBLIC + WEBHOOK_PATH
STREAM_URL = "wss://bridge.example.com" + STREAM_PATH


@attack("unsigned webhook", "a webhook without `X-Twilio-Signature`")
async def unsigned_webhook(scene: Scene) -> str:
    return str(await scene.ask(webhook()))


@attack("unsigned words of Twilio's", "to the queue, after a stream, a forwarded call, a voicemail")
async def unsigned_others(scene: Scene) -> str:
    said = {**FORM, "QueueResult": "leave", "DialCallStatus": "no-answer"}
    targets = (WAIT_PATH, QUEUED_PATH, AFTER_PATH, FORWARDED_PATH, RECORDED_PATH)
    answers = [str(await scene.ask(webhook(said, target=target))) for target in targets]
    return "; ".join(dict.fromkeys(answers))


@attack("wrong token", "a webhook signed with a guessed auth token")
async def wrong_token(scene: Scene) -> str:
    return str(await scene.ask(webhook(headers=[signed(URL, FORM, WRONG_TOKEN)])))


@attack("old token", "a webhook signed with a token that was rotated out; then with the next one")
async def old_token(scene: Scene) -> str:
    old = await scene.ask(webhook(headers=[signed(URL, FORM, OLD_TOKEN)]))
    new = await scene.ask(webhook(headers=[signed(URL, FORM, NEXT_TOKEN)]))
    return f"{old}; then {new}"


@attack("signature for another URL", "the signature of `/voice/other`")
async def another_path(scene: Scene) -> str:
    return str(await scene.ask(webhook(headers=[signed(PUBLIC + "/voice/other", FORM)])))


@attack("signature for another host", "one of `https://other.example`, with `Host: other.example`")
async def another_host(scene: Scene) -> str:
    header = signed("https://other.example" + WEBHOOK_PATH, FORM)
    data = webhook(headers=[header]).replace(b"Host: bridge.example.com", b"Host: other.example")
    return str(await scene.ask(data))


@attack("http instead of https", "the signature of `http://bridge.example.com/voice/inbound`")
async def plain_http(scene: Scene) -> str:
    return str(await scene.ask(webhook(headers=[signed(URL.replace("https", "http"), FORM)])))


@attack("other parameters", "a signed webhook, its CallSid changed")
async def other_parameters(scene: Scene) -> str:
    changed = {**FORM, "CallSid": "CA" + "e" * 32}
    return str(await scene.ask(webhook(changed, [signed(URL, FORM)])))


@attack("query added", "a signed webhook with `?persona=noir` behind it")
async def added_query(scene: Scene) -> str:
    data = webhook(headers=[signed(URL, FORM)], target=WEBHOOK_PATH + "?persona=noir")
    return str(await scene.ask(data))


@attack("another account", "a webhook of another account, rightly signed")
async def another_account(scene: Scene) -> str:
    form = {**FORM, "AccountSid": "AC" + "9" * 32}
    return str(await scene.ask(webhook(form, [signed(URL, form)])))


@attack("replayed webhook", "a signed webhook a second time: Twilio's signature has no date")
async def replayed_webhook(scene: Scene) -> str:
    first = await scene.parameters()
    again = await scene.ask(signed_webhook())
    return f"{again}: only TLS keeps it secret; {await scene.genuine_call(first)}"


@attack("unsigned upgrade", "a media socket without `X-Twilio-Signature`")
async def unsigned_upgrade(scene: Scene) -> str:
    return await scene.refusal(upgrade())


@attack("webhook's signature", "a media socket with a webhook's signature")
async def webhooks_signature(scene: Scene) -> str:
    return await scene.refusal(upgrade(signed(URL, FORM)))


@attack("another bridge's socket", "a media socket signed for the load balancer's address")
async def balancers_socket(scene: Scene) -> str:
    url = BALANCER.replace("https", "wss") + STREAM_PATH
    return await scene.refusal(upgrade(signed(url, {})))


@attack("plain ws", "a media socket signed for `ws://bridge.example.com/voice/stream`")
async def plain_ws(scene: Scene) -> str:
    return await scene.refusal(upgrade(signed(STREAM_URL.replace("wss", "ws"), {})))


@attack("query on the stream URL", "`/voice/stream?persona=noir`, signed without; then with it")
async def query_on_stream(scene: Scene) -> str:
    target = STREAM_PATH + "?persona=noir"
    without = await scene.refusal(upgrade(signed(STREAM_URL, {}), target=target))
    data = upgrade(signed(STREAM_URL + "?persona=noir", {}), target=target)
    async with scene.socket(data) as socket:
        socket.send(start({}))
        return f"{without}; then {await scene.ending(socket)}"


@attack(
    "forged X-Forwarded-Host and -Proto",
    "from an untrusted peer, with the signature of that host, where PUBLIC_URL isn't set",
    settings=dataclasses.replace(SETTINGS, public_urls=()),
)
async def forged_host(scene: Scene) -> str:
    forged = [("X-Forwarded-Host", "other.example"), ("X-Forwarded-Proto", "https")]
    header = signed("https://other.example" + WEBHOOK_PATH, FORM)
    return str(await scene.ask(webhook(headers=[header, *forged])))


@attack(
    "stream led elsewhere",
    "forged X-Forwarded-Host, on a bridge without a token: where the TwiML then leads",
    settings=OPEN,
)
async def stream_led_elsewhere(scene: Scene) -> str:
    forged = [("X-Forwarded-Host", "other.example"), ("X-Forwarded-Proto", "https")]
    answer = await scene.ask(webhook({}, forged))
    verb = read_twiml(answer.body)[0]
    assert isinstance(verb, ConnectStream)
    return f"{answer}, to `{verb.url}`: its own Host"


@attack("webhook flood", "200 unsigned webhooks at once, then a signed one")
async def flood(scene: Scene) -> str:
    return await _flood(scene, lambda number: [])


@attack("webhook flood behind X-Forwarded-For", "the same, each with another forged client address")
async def forged_client(scene: Scene) -> str:
    return await _flood(scene, lambda number: [("X-Forwarded-For", f"198.51.100.{number}")])


@attack("upgrade flood", "200 unsigned media sockets at once, then a signed one")
async def upgrade_flood(scene: Scene) -> str:
    answers = [await scene.ask(upgrade()) for _ in range(200)]
    async with scene.socket():
        return f"{_counted(answers)}; the signed one: 101"


async def _flood(scene: Scene, headers: Callable[[int], list[Header]]) -> str:
    answers = [await scene.ask(webhook(headers=headers(number))) for number in range(200)]
    genuine = await scene.ask(signed_webhook())
    return f"{_counted(answers)}; the signed one: {genuine}"


def _counted(answers: list[Answer]) -> str:
    """How many of each kind, and when to come back."""
    kinds = Counter(str(answer) for answer in answers)
    after = {answer.header("Retry-After") for answer in answers} - {""}
    told = f" (Retry-After: {', '.join(sorted(after))})" if after else ""
    return ", ".join(f"{number}x {kind}" for kind, number in kinds.items()) + told


@attack("constant signature", "a media socket with the upgrade signature of another call, no token")
async def constant_signature(scene: Scene) -> str:
    async with scene.socket(signed_upgrade()) as socket:
        socket.send(start({"persona": "assistant"}))
        return await scene.ending(socket)
