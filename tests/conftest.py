"""Settings of Hypothesis for all tests, and of the garbage collector."""

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Under `nohup` SIGHUP is ignored, and would be by the programs that tests start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("project", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("project")


def pytest_collection_finish() -> None:
    """What was imported stays: don't let each search for leaks look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _what_modules_import_late() -> Iterator[None]:
    """The same."""
    yield
    gc.collect()
    gc.freeze()
