"""Run by the interop tests as a program, with a release of sphn on PYTHONPATH.

`decode`: messages of Ogg Opus on standard input, each after its length; float32 samples at
24 kHz on standard output. `encode`: the other way round. Each as the model server does it.
"""

import importlib
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

RATE_HZ = 24_000
FRAME_SAMPLES = 1920
DEADLINE_S = 20.0


def decode(sphn: Any, data: bytes) -> bytes:
    reader = sphn.OpusStreamReader(RATE_HZ)
    # 0.2 answers with the samples; 0.1 hands the bytes to a thread of its own.
    answers = [reader.append_bytes(message) for message in split_messages(data)]
    parts = list(read_until_closed(reader)) if hasattr(reader, "read_pcm") else answers
    return b"".join(part.astype(np.float32).tobytes() for part in parts)


def read_until_closed(reader: Any) -> Iterator[Any]:
    reader.close()
    deadline = time.monotonic() + DEADLINE_S
    while (pcm := reader.read_pcm()) is not None:
        yield pcm
        if not len(pcm):
            assert time.monotonic() < deadline, "the reader's thread doesn't end"
            time.sleep(0.001)


def encode(sphn: Any, data: bytes) -> bytes:
    writer = sphn.OpusStreamWriter(RATE_HZ)
    answers = []
    for frame in np.frombuffer(data, np.float32).reshape(-1, FRAME_SAMPLES):
        answer = writer.append_pcm(frame)
        if answer is not None:
            answers.append(answer)
        else:
            answers += iter(writer.read_bytes, b"")
    return b"".join(struct.pack(">I", len(answer)) + bytes(answer) for answer in answers)


def split_messages(data: bytes) -> Iterator[bytes]:
    while data:
        (size,) = struct.unpack_from(">I", data)
        yield data[4 : 4 + size]
        data = data[4 + size :]


if __name__ == "__main__":
    work = {"decode": decode, "encode": encode}[sys.argv[1]]
    sys.stdout.buffer.write(work(importlib.import_module("sphn"), sys.stdin.buffer.read()))
