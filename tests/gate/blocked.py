"""The console command where nothing but aiohttp is installed: python -m tests.gate.blocked …

What aiohttp needs itself is there, too; everything else that isn't in the standard library isn't.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from types import ModuleType

INSTALLED = {"aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "attrs", "frozenlist"}
INSTALLED |= {"idna", "multidict", "propcache", "typing_extensions", "yarl"}
OURS = {"personaplex_bridge", "tests"}


class OnlyInstalled(PathFinder):
    """Finds what is installed, and nothing else."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top not in INSTALLED | OURS | sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(fullname, path, target)


if __name__ == "__main__":
    assert not {"websockets", "dotenv", "uvloop", "numpy"} & set(sys.modules)
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, OnlyInstalled]
    from personaplex_bridge.cli import main

    sys.exit(main(sys.argv[1:]))
