"""Nothing may be left behind here either."""

from tests.live.conftest import clean as clean
