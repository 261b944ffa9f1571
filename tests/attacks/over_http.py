"""HTTP that is too long, or none; and paths, methods and words that trick."""

from __future__ import annotations

import gzip
from urllib.parse import quote

from personaplex_bridge.simulator.obey import ConnectStream, Hangup, read_twiml
from personaplex_bridge.web.paths import HOLD_PATH, WEBHOOK_PATH
from tests.attacks import raw
from tests.attacks.raw import Answer
from tests.attacks.scene import (
    FORM,
    OPEN,
    PUBLIC,
    Scene,
    attack,
    host,
    signed,
    upgrade,
    webhook,
)
from tests.attacks.who import STREAM_URL


@attack("huge body", "a body of 10 MB announced, and sent")
async def huge_body(scene: Scene) -> str:
    return str(await scene.ask(raw.request("POST", WEBHOOK_PATH, [host()], bytes(10 << 20))))


@attack("huge body in chunks", "10 MB in chunks, without a length")
async def huge_chunks(scene: Scene) -> str:
    head = raw.request("POST", WEBHOOK_PATH, [host(), ("Transfer-Encoding", "chunked")])
    return str(await scene.ask(head + (b"1000\r\n" + bytes(4096) + b"\r\n") * 2560))


@attack("huge header", "a header line of 100 KB")
async def huge_header(scene: Scene) -> str:
    return str(await scene.ask(webhook(headers=[("X-Long", "x" * 100_000)])))


@attack("huge request line", "a query of 100 KB")
async def huge_query(scene: Scene) -> str:
    return str(await scene.ask(webhook(target=WEBHOOK_PATH + "?persona=" + "x" * 100_000)))


@attack("many headers", "1,000 header lines")
async def many_headers(scene: Scene) -> str:
    return str(await scene.ask(webhook(headers=[(f"X-{n}", "x") for n in range(1000)])))


@attack("many parameters", "a form of 5,000 fields")
async def many_parameters(scene: Scene) -> str:
    return str(await scene.ask(webhook({str(number): "" for number in range(5000)})))


@attack("compressed body", "1 MB of zeros, gzipped to 1 KB")
async def compressed_body(scene: Scene) -> str:
    headers = [host(), ("Content-Encoding", "gzip")]
    body = gzip.compress(bytes(1 << 20), mtime=0)
    return str(await scene.ask(raw.request("POST", WEBHOOK_PATH, headers, body)))


async def _each(scene: Scene, *requests: bytes) -> str:
    """The answers to several, each kind once."""
    answers = [str(await scene.ask(data)) for data in requests]
    return "; ".join(dict.fromkeys(answers))


def get(target: str) -> bytes:
    return raw.request("GET", target, [host()])


@attack("dots in the path", "`/voice/../healthz`; `/voice/%2e%2e/healthz`; `/../../etc/passwd`")
async def dots(scene: Scene) -> str:
    paths = ("/voice/../healthz", "/voice/%2e%2e/healthz", "/../../etc/passwd")
    return await _each(scene, *map(get, paths))


@attack("slashes in the path", "`//voice/inbound`; `/voice//inbound`; `/voice/inbound/`")
async def slashes(scene: Scene) -> str:
    return await _each(scene, *map(get, ("//voice/inbound", "/voice//inbound", "/voice/inbound/")))


@attack("null byte, backslash", "`/voice/inbound%00`; `/voice\\inbound`; `/voice/inbound;x`")
async def nulls(scene: Scene) -> str:
    return await _each(
        scene, *map(get, ("/voice/inbound%00", "/voice\\inbound", "/voice/inbound;x"))
    )


@attack("hold sound's paths", "`/voice/hold/9999.wav`; `…/..%2f..%2fetc%2fpasswd`; `…/0.wav.bak`")
async def hold_paths(scene: Scene) -> str:
    names = ("9999.wav", "..%2f..%2fetc%2fpasswd", "0.wav.bak", "-1.wav")
    return await _each(scene, *(get(f"{HOLD_PATH}/{name}") for name in names))


@attack("path in other letters", "`/voice/%69nbound`, with the signature of `/voice/inbound`")
async def escaped(scene: Scene) -> str:
    header = signed(PUBLIC + WEBHOOK_PATH, FORM)
    return str(await scene.ask(webhook(headers=[header], target="/voice/%69nbound")))


@attack("whole URL as path", "`POST https://other.example/voice/inbound`, as to a proxy")
async def absolute(scene: Scene) -> str:
    url = "https://other.example" + WEBHOOK_PATH
    return str(await scene.ask(webhook(headers=[signed(url, FORM)], target=url)))


@attack("odd methods", "PUT, DELETE, TRACE, PATCH, OPTIONS, CONNECT on the webhook")
async def methods(scene: Scene) -> str:
    odd = ("PUT", "DELETE", "TRACE", "PATCH", "OPTIONS", "CONNECT")
    return await _each(scene, *(raw.request(m, WEBHOOK_PATH, [host()]) for m in odd))


@attack("proxy asked for", "`CONNECT 192.0.2.1:22`; `OPTIONS *`")
async def proxy(scene: Scene) -> str:
    wanted = (("CONNECT", "192.0.2.1:22"), ("OPTIONS", "*"))
    return await _each(scene, *(raw.request(m, target, [host()]) for m, target in wanted))


@attack("no HTTP", "a TLS ClientHello; HTTP/2's preface; an SSH greeting; zeros")
async def no_http(scene: Scene) -> str:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return await _each(scene, hello, preface, b"SSH-2.0-OpenSSH_9.2\r\n", bytes(100))


@attack("smuggled by two lengths", "Content-Length and Transfer-Encoding; Content-Length twice")
async def two_lengths(scene: Scene) -> str:
    inner = get("/healthz")
    both = [host(), ("Transfer-Encoding", "chunked"), ("Content-Length", "4")]
    twice = [host(), ("Content-Length", "0"), ("Content-Length", str(len(inner)))]
    return await _each(
        scene,
        raw.request("POST", WEBHOOK_PATH, both) + b"0\r\n\r\n" + inner,
        raw.request("POST", WEBHOOK_PATH, twice) + inner,
    )


@attack("smuggled by odd codings", "`Transfer-Encoding: xchunked`; a space before the colon")
async def odd_codings(scene: Scene) -> str:
    odd = raw.request("POST", WEBHOOK_PATH, [host(), ("Transfer-Encoding", "xchunked")])
    spaced = raw.request("POST", WEBHOOK_PATH, [host(), ("Transfer-Encoding ", "chunked")])
    return await _each(scene, odd + b"0\r\n\r\n", spaced + b"0\r\n\r\n")


@attack("headers that break lines", "a folded header; a bare line feed; a null byte; Host twice")
async def broken_lines(scene: Scene) -> str:
    begin = b"GET /healthz HTTP/1.1\r\nHost: bridge.example.com\r\n"
    return await _each(
        scene,
        begin + b"X-A: b\r\n c\r\n\r\n",
        begin + b"X-A: b\n\r\n\r\n",
        begin + b"X-A: b\x00c\r\n\r\n",
        begin + b"Host: other.example\r\n\r\n",
    )


@attack("second request behind the first", "two in one packet, the second for `/healthz`")
async def pipelined(scene: Scene) -> str:
    answer: Answer = await scene.ask(webhook() + get("/healthz"))
    assert answer.raw.count(b"HTTP/1.1 ") == 1
    return f"{answer}; the second isn't read"


@attack("body with an upgrade", "a signed upgrade, and a request in its body", lasts_s=12.0)
async def upgrade_with_body(scene: Scene) -> str:
    inner = get("/healthz")
    headers = (signed(STREAM_URL, {}), ("Content-Length", str(len(inner))))
    async with scene.socket(upgrade(*headers) + inner) as socket:
        return f"101, then {await scene.ending(socket)}; the body isn't read"


async def _injected(scene: Scene, query: str) -> str:
    """What TwiML a query gets, on a bridge where anybody may ask."""
    answer = await scene.ask(webhook({}, target=WEBHOOK_PATH + query))
    verbs = read_twiml(answer.body)
    assert [type(verb) for verb in verbs] == [ConnectStream, Hangup], answer.body
    assert isinstance(verbs[0], ConnectStream)
    said = ", ".join(f"{name} {value!r}" for name, value in verbs[0].parameters.items())
    return f"{answer}: {said}"


@attack("no Host", "a webhook without a Host header; one with HTTP/1.0", settings=OPEN)
async def no_host(scene: Scene) -> str:
    data = webhook({}).replace(b"Host: bridge.example.com\r\n", b"")
    return await _each(scene, data, data.replace(b"HTTP/1.1", b"HTTP/1.0"))


@attack("voice injected", "`?voice=../../etc/passwd`, where anybody may ask", settings=OPEN)
async def injected_voice(scene: Scene) -> str:
    return await _injected(scene, "?voice=../../etc/passwd")


@attack("persona injected", "`?persona=` a line break and a forged log line", settings=OPEN)
async def injected_persona(scene: Scene) -> str:
    return await _injected(scene, "?persona=a%0D%0AINFO+forged")


@attack("control characters", "`?text_prompt=` with a null, an escape, U+FFFE", settings=OPEN)
async def injected_controls(scene: Scene) -> str:
    prompts = ("a%00b", "a%1B%5B2Jb", "a%EF%BF%BEb")
    (answer,) = {await _injected(scene, f"?text_prompt={prompt}") for prompt in prompts}
    return answer


@attack("XML injected", '`?text_prompt="/></Stream></Connect><Dial>…`', settings=OPEN)
async def injected_xml(scene: Scene) -> str:
    prompt = '"/></Stream></Connect><Dial>900</Dial><Connect><Stream url="'
    answer = await _injected(scene, f"?text_prompt={quote(prompt)}")
    assert repr(prompt) in answer
    return "200: the same verbs as ever; the words stay one parameter"


@attack("XML injected by Host", '`Host: a"/><Dial>`', settings=OPEN)
async def injected_host(scene: Scene) -> str:
    data = webhook({}).replace(b"Host: bridge.example.com", b'Host: a"/><Dial>')
    return str(await scene.ask(data))


@attack("server looked at", "an unknown path: what the answer says of the program")
async def looked_at(scene: Scene) -> str:
    answer = await scene.ask(get("/admin"))
    bad = await scene.ask(b"\x00\r\n\r\n")
    return f"{answer}, `Server: {answer.header('Server')}`; {bad}, `{bad.header('Server')}`"
