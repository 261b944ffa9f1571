"""Every test must leave nothing behind, as those in tests/live."""

from tests.live.conftest import clean

__all__ = ["clean"]
