"""Inputs to begin with: good ones by our own serializers and stand-ins, and some that are odd.

From good ones a fuzzer gets deep into a parser at once. The odd ones are those that take more
than a few changes to come by, among them what was once a bug.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from fuzz.inputs import Stream, join_frames
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.audio.opus import AUTO_BITRATE, Application, OpusEncoder
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.personaplex import messages
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.behaviours import FRAME_SAMPLES, RATE_HZ
from personaplex_bridge.twilio import inbound, outbound
from personaplex_bridge.twilio.inbound import Connected, Dtmf, Mark, Media, Start, Stop

_SID = "MZ" + "0123456789abcdef" * 2
_CALL = ("CA" + "1" * 32, "AC" + "2" * 32)
_REPLIES = 60
"""Model frames (4.8 s) that the stand-in is listened to."""


def of(target: str) -> list[bytes]:
    """The inputs that the target `target` begins with."""
    return SEEDS[target]()


def twilio() -> list[bytes]:
    """A call, each event alone, and what is refused."""
    call: list[inbound.Inbound] = [
        Connected(),
        Start(_SID, *_CALL, custom_parameters={"persona": "noir", "ünicode": "\n"}),
        Media(_SID, 2, 1, 0, b"\xff" * 160),
        Media(_SID, 3, 2, 20, bytes(range(160))),
        Dtmf(_SID, 4, "#"),
        Mark(_SID, 5, "400"),
        Stop(_SID, 6, *_CALL),
    ]
    frames = [inbound.serialize(event).encode() for event in call]
    odd = [frames[1].replace(b"8000", b"16000"), frames[2].replace(b"MZ", b"XX")]
    return [*frames, join_frames(frames), join_frames([*odd, *frames[1:], *odd]), *_odd_json()]


def _odd_json() -> Iterable[bytes]:
    yield outbound.serialize(outbound.Clear(_SID)).encode()
    for depth in (100, 1015):  # deeper than 1,024 is no JSON to orjson
        yield b'{"event":' + b"[" * depth + b"]" * depth + b"}"
    yield b'{"event":"media","media":' * 50 + b"{}" + b"}" * 50
    yield json.dumps({"event": "mark" * 300, "streamSid": _SID}).encode()
    yield b'{"event":"mark","sequenceNumber":"1","streamSid":"\\ud83d\\ude00","mark":{"name":""}}'


def model() -> list[bytes]:
    """What the stand-in says, each kind of message, and words that are hard to read."""
    kinds: list[messages.Message] = [
        messages.Handshake(bytes(8)),
        messages.Audio(b"OggS"),
        messages.Text(" caf<0xC3><0xA9>"),
        messages.Control(b"\0"),
        messages.Metadata(b"{}"),
        messages.ServerError("no"),
        messages.Ping(),
        messages.Unknown(7, b"?"),
    ]
    pieces = [" a<", "0x41>", "<s>", "<0xE2><0x82>", "b\n", "x" * 300, "< " * 20, "<0x0A>", "\x1e"]
    frames = list(map(messages.serialize, kinds))
    hard = [frames[0], *(messages.serialize(messages.Text(piece)) for piece in pieces)]
    lone = [messages.serialize(messages.Text(text)) for text in ("<" * 300, "<0x41>" * 120)]
    said = [frames[0], *(message for message in _said() if message[0] == 2)]
    return [*frames, *map(join_frames, (frames, hard, said, [frames[0], *lone])), b""]


def audio() -> list[bytes]:
    """Streams of the stand-in and of our own, packets of all lengths, and damaged streams."""
    standin = [message[1:] for message in _said() if message[0] == 1]
    good = [b"".join(standin[:6]), _uplink(), *_lengths(), _going_on()]
    damaged = [
        b"".join([*standin[:3], *standin[5:7], *standin[:3]]),  # a hole, and another beginning
        b"".join([*standin[:3], b"noise", standin[3][:-9], *standin[4:6]]),
        good[0] + good[1],
    ]
    streams = [Stream(ogg, (len(ogg) // 3, 60, len(ogg) // 2)) for ogg in good]
    return [stream.serialize() for stream in streams] + [
        Stream(ogg, (40,), mended).serialize() for ogg in damaged for mended in (True, False)
    ]


@cache
def _said() -> list[bytes]:
    """What the stand-in's `repeat` sends when it hears a sentence: audio and text messages."""
    behaviour, writer = behaviours.make("repeat"), OggWriter(42)
    said = [writer.page([header], 0) for header in (opus_head(3840, RATE_HZ), opus_tags("s"))]
    replies = [behaviour.step(frame) for frame in _sound(_REPLIES * FRAME_SAMPLES, RATE_HZ)]
    found = [messages.serialize(messages.Audio(page)) for page in said]
    for number, reply in enumerate(replies, start=1):
        found += [messages.serialize(messages.Text(piece)) for piece in reply.pieces]
        page = writer.page([reply.packet], number * FRAME_SAMPLES)
        found.append(messages.serialize(messages.Audio(page)))
    return found


def _sound(samples: int, rate_hz: int) -> list[Pcm]:
    """Half a second of a tone and as much of silence, in turn, in frames of 80 ms."""
    time_s = np.arange(samples) / rate_hz
    tone = 8000 * np.sin(2 * np.pi * 440 * time_s) * (time_s % 1.5 < 0.5)
    return list(tone.astype(np.int16).reshape(-1, rate_hz * 80 // 1000))


def _uplink() -> bytes:
    """Our own stream: four packets of 20 ms in a page, and an end."""
    uplink = make_uplink("native")
    speech = bytes(range(256)) * 10
    return uplink.headers() + b"".join(uplink.feed(speech)) + uplink.flush()


def _lengths() -> list[bytes]:
    """A stream for each length that a packet may have."""
    return [_pages([[_encoded(ms)] * 2, [_encoded(ms)]]) for ms in (10, 20, 40, 60, 120)]


def _going_on() -> bytes:
    """Pages that end within a packet, and one of another stream between them; empty packets."""
    whole = [_page(b"\0\0", b"", 3), _page(b"\x02", b"\x03\0", 5)]
    parts = [_page(b"\xff", bytes(255), number, flags=number > 1) for number in (1, 2)]
    foreign = _page(b"\x01", b"?", 1, serial=8)
    last = _page(b"\x01", b"?", 4, flags=1)
    return _pages([]) + parts[0] + foreign + parts[1] + whole[0] + last + whole[1]


def _page(lacing: bytes, body: bytes, number: int, *, flags: int = 0, serial: int = 7) -> bytes:
    """A page of any shape, without its checksum (RFC 3533, section 6)."""
    header = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, serial, number, 0, len(lacing))
    return header + lacing + body


def _encoded(frame_ms: int) -> bytes:
    encoder = OpusEncoder(
        RATE_HZ,
        application=Application.VOIP,
        bitrate=AUTO_BITRATE,
        complexity=0,
        frame_ms=frame_ms,
    )
    frame = np.resize(_sound(FRAME_SAMPLES, RATE_HZ)[0], encoder.samples_per_frame)
    return encoder.encode(frame)


def _pages(pages: Iterable[list[bytes]]) -> bytes:
    writer = OggWriter(7)
    stream = writer.page([opus_head(0, RATE_HZ)], 0)
    return stream + b"".join(writer.page(packets, 0) for packets in pages)


SEEDS: dict[str, Callable[[], list[bytes]]] = {"twilio": twilio, "model": model, "audio": audio}
