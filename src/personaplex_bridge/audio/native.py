"""What to say when a C library is missing."""

from __future__ import annotations


def missing(library: str, debian: str, brew: str) -> ImportError:
    """An error that says how to mend it. On macOS, ctypes doesn't look where Homebrew installs."""
    return ImportError(
        f"{library} is missing: apt-get install {debian} (macOS: brew install {brew}, and "
        'export DYLD_FALLBACK_LIBRARY_PATH="$(brew --prefix)/lib")'
    )
