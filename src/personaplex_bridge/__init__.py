"""The phone line for full-duplex speech models: Twilio Media Streams to NVIDIA PersonaPlex."""

__version__ = "0.1.0"
