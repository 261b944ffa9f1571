"""Where Twilio finds what."""

from __future__ import annotations

WEBHOOK_PATH = "/voice/inbound"
STREAM_PATH = "/voice/stream"

WAIT_PATH = "/voice/wait"
"""The queue's waitUrl: what a caller who holds hears next."""
QUEUED_PATH = "/voice/queued"
"""The queue's action: what comes after holding."""
AFTER_PATH = "/voice/after"
"""The stream's action."""
FORWARDED_PATH = "/voice/forwarded"
"""The action of a call that is forwarded."""
RECORDED_PATH = "/voice/recorded"
"""The voicemail's action."""
HOLD_PATH = "/voice/hold"
"""The pieces of hold sound are below it."""
