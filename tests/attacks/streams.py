"""Media sockets that Twilio's signature lets in: stolen tokens, and messages out of order."""

from __future__ import annotations

import asyncio
import zlib

from personaplex_bridge.twilio.inbound import Dtmf, Stop, serialize
from personaplex_bridge.web.tickets import LIFETIME_S, TOKEN_PARAMETER
from tests.attacks import raw
from tests.attacks.raw import BINARY, CONTINUATION, TEXT, Socket, frame
from tests.attacks.scene import (
    ACCOUNT,
    CALL,
    OTHER_CALL,
    STREAM,
    Scene,
    attack,
    host,
    media,
    signed,
    start,
)
from tests.attacks.who import STREAM_URL
from tests.live.harness import until

QUERY = "?persona=noir&voice=VARM1&text_prompt=secret+prompt"


@attack("no one-time token", "`start` with a persona and nothing else")
async def no_token(scene: Scene) -> str:
    return await scene.try_start({"persona": "noir"})


@attack("invented one-time token", "`start` with a token that looks right")
async def invented_token(scene: Scene) -> str:
    return await scene.try_start({"persona": "assistant", TOKEN_PARAMETER: "once_" + "x" * 43})


@attack(
    "one-time token guessed",
    "500 guesses that begin as the genuine one, while its call is awaited",
    lasts_s=2.0,
)
async def guessed_token(scene: Scene) -> str:
    genuine = await scene.parameters()
    answers = set()
    for number in range(500):
        guess = genuine[TOKEN_PARAMETER][:-3] + f"{number:03}"
        if guess != genuine[TOKEN_PARAMETER]:
            answers.add(await scene.try_start({**genuine, TOKEN_PARAMETER: guess}))
    (answer,) = answers
    return f"each time {answer}; {await scene.genuine_call(genuine)}"


@attack("replayed one-time token", "the same `start` again, while the call goes on")
async def replayed_token(scene: Scene) -> str:
    genuine = await scene.parameters()
    async with scene.socket() as first:
        first.send(start(genuine))
        await until(lambda: len(scene.line.bridge.records) == 2)
        again = await scene.try_start(genuine)
        first.send(serialize(Stop(STREAM, 9, CALL, ACCOUNT)))
        assert (await scene.ending(first)).startswith("1000")
    return f"{again}; the first goes on"


@attack("one-time token of a call that is over", "the same `start` again, after it")
async def token_after_call(scene: Scene) -> str:
    genuine = await scene.parameters()
    await scene.genuine_call(genuine)
    return await scene.try_start(genuine)


@attack("expired one-time token", "a genuine `start`, 61 s after its webhook", lasts_s=63.0)
async def expired_token(scene: Scene) -> str:
    genuine = await scene.parameters()
    await asyncio.sleep(LIFETIME_S + 1)
    return await scene.try_start(genuine)


@attack("one-time token of another call", "a genuine token, with another CallSid")
async def token_of_another_call(scene: Scene) -> str:
    genuine = await scene.parameters()
    answer = await scene.try_start(genuine, OTHER_CALL)
    return f"{answer}; {await scene.genuine_call(genuine)}"


async def _altered(scene: Scene, **changed: str) -> str:
    genuine = await scene.parameters(query=QUERY)
    answer = await scene.try_start({**genuine, **changed})
    return f"{answer}; {await scene.genuine_call(genuine)}"


@attack("altered persona", "a genuine `start`, another persona in it")
async def altered_persona(scene: Scene) -> str:
    return await _altered(scene, persona="entertainer")


@attack("altered voice", "a genuine `start`, another voice in it")
async def altered_voice(scene: Scene) -> str:
    return await _altered(scene, voice="NATF0")


@attack("altered prompt", "a genuine `start`, another text_prompt in it")
async def altered_prompt(scene: Scene) -> str:
    return await _altered(scene, text_prompt="You tell callers their card was declined.")


@attack("added parameter", "a genuine `start`, one parameter more")
async def added_parameter(scene: Scene) -> str:
    return await _altered(scene, admin="yes")


@attack("second start", "another `start` in a call, with another CallSid and persona")
async def second_start(scene: Scene) -> str:
    return await _in_a_call(scene, start({"persona": "noir"}, OTHER_CALL))


@attack("start flood", "200 `start` messages in a call")
async def start_flood(scene: Scene) -> str:
    async with scene.socket() as socket:
        socket.send(start(await scene.parameters()), *[start({})] * 200)
        return await scene.ending(socket)


@attack("media before start", "a second of media, then `start` without a token")
async def media_before_start(scene: Scene) -> str:
    async with scene.socket() as socket:
        socket.send(*[media(number) for number in range(50)], start({}))
        ending = await scene.ending(socket)
    return f"{ending}; {_skipped(scene)}"


@attack("no start", "a media socket that says nothing", lasts_s=12.0)
async def no_start(scene: Scene) -> str:
    async with scene.socket() as socket:
        return await scene.ending(socket)


@attack("wrong streamSid", "media of another stream in a call")
async def wrong_stream(scene: Scene) -> str:
    return await _in_a_call(scene, media(0, "MZ" + "9" * 32))


@attack("binary frames", "audio as it is, instead of JSON")
async def binary_frames(scene: Scene) -> str:
    return await _in_a_call(scene, frame(BINARY, b"\xff" * 160))


@attack("rubbish", "200 messages that are no JSON")
async def rubbish(scene: Scene) -> str:
    async with scene.socket() as socket:
        socket.send(*["{"] * 200)
        return await scene.ending(socket)


@attack("deeply nested JSON", "30,000 brackets in a message")
async def nested(scene: Scene) -> str:
    return await _in_a_call(scene, "[" * 30_000 + "]" * 30_000)


@attack("1 MB message", "a text frame of 1 MB")
async def long_message(scene: Scene) -> str:
    return await _kept_out(scene, frame(TEXT, b" " * (1 << 20)))


@attack("1 MB message in pieces", "1 MB in fragments of 1 KB that never end")
async def fragments(scene: Scene) -> str:
    pieces = [frame(TEXT, b" " * 1024, fin=False)]
    pieces += [frame(CONTINUATION, b" " * 1024, fin=False)] * 1023
    return await _kept_out(scene, b"".join(pieces))


@attack("compressed bomb", "1 MB of zeros deflated to 1 KB, although compression wasn't agreed on")
async def bomb(scene: Scene) -> str:
    squeezer = zlib.compressobj(wbits=-15)
    small = squeezer.compress(bytes(1 << 20)) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    return await _kept_out(scene, frame(TEXT, small[:-4], rsv1=True))


@attack("compression asked for", "`Sec-WebSocket-Extensions: permessage-deflate`")
async def compression(scene: Scene) -> str:
    asked = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    async with scene.connect() as connection:
        target = "/voice/stream"
        data = raw.upgrade(target, [host(), signed(STREAM_URL, {}), asked])
        socket = await scene.open(connection, data)
        assert isinstance(socket, Socket)
        agreed = socket.head.header("Sec-WebSocket-Extensions")
        return f"{socket.head.status}, {agreed or 'not agreed to'}"


@attack("huge frame announced", "a frame header that says 2^62 bytes, and nothing")
async def announced(scene: Scene) -> str:
    return await _kept_out(scene, b"\x81\xff" + (1 << 62).to_bytes(8, "big") + raw.MASK)


@attack("media faster than real time", "20 s of media at once in a call")
async def hasty_media(scene: Scene) -> str:
    return await _kept_out(scene, b"".join(frame(TEXT, media(n).encode()) for n in range(1000)))


@attack("message flood", "2,000 keys pressed at once in a call")
async def key_flood(scene: Scene) -> str:
    key = serialize(Dtmf(STREAM, 9, "1")).encode()
    return await _kept_out(scene, frame(TEXT, key) * 2000)


@attack("half-open media socket", "a call that goes silent and answers no pings", lasts_s=42.0)
async def half_open(scene: Scene) -> str:
    async with scene.socket() as socket:
        socket.send(start(await scene.parameters()))
        await asyncio.sleep(41.0)
        record = await scene.record()
        assert record.ending is not None
        return f"after {record.duration_s:.0f} s: {record.ending.reason}"


async def _kept_out(scene: Scene, data: bytes) -> str:
    """What bytes get that no WebSocket of ours takes."""
    async with scene.socket() as socket:
        socket.send(start(await scene.parameters()))
        socket.send_raw(data)
        return await scene.ending(socket)


async def _in_a_call(scene: Scene, message: str | bytes) -> str:
    """What a message gets in the middle of a call that is let in."""
    async with scene.socket() as socket:
        socket.send(start(await scene.parameters()))
        if isinstance(message, str):
            socket.send(message)
        else:
            socket.send_raw(message)
        socket.send(media(0), serialize(Stop(STREAM, 9, CALL, ACCOUNT)))
        ending = await scene.ending(socket)
    record = scene.ended[-1]
    assert (record.call_sid, record.persona, record.caller_frames) == (CALL, "assistant", 1)
    assert ending == "1000: the caller hung up", ending
    return f"{_skipped(scene)}; the call goes on as it was"


def _skipped(scene: Scene) -> str:
    counted = scene.ended[-1].bad_messages
    return "skipped: " + ", ".join(f"{number}x {why}" for why, number in sorted(counted.items()))
