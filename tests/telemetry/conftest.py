"""Tests here leave nothing behind either."""

from tests.live.conftest import clean

__all__ = ["clean"]
