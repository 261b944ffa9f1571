"""What the caller said and the model has not been sent yet, bounded by media time."""

from __future__ import annotations

from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS


class MulawBacklog:
    """A first-in, first-out store of mu-law that forgets its oldest frames beyond `limit_ms`.

    It forgets whole frames, so that what is left stays aligned to them.
    """

    def __init__(self, limit_ms: int) -> None:
        self.dropped_frames = 0
        self._limit_bytes = limit_ms // FRAME_MS * FRAME_BYTES
        self._mulaw = bytearray()

    def __len__(self) -> int:
        """Bytes waiting."""
        return len(self._mulaw)

    def append(self, mulaw: bytes) -> None:
        """Add to the end; drop and count what no longer fits from the beginning."""
        self._mulaw += mulaw
        excess = len(self._mulaw) - self._limit_bytes
        if excess > 0:
            frames = -(-excess // FRAME_BYTES)
            del self._mulaw[: frames * FRAME_BYTES]
            self.dropped_frames += frames

    def take(self, multiple_bytes: int) -> bytes:
        """Remove and return the longest beginning that is a multiple of so many bytes."""
        end = len(self._mulaw) // multiple_bytes * multiple_bytes
        taken = bytes(self._mulaw[:end])
        del self._mulaw[:end]
        return taken
