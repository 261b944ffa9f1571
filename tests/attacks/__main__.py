"""`./scripts/attacks`: attack a bridge, and tell what it answers."""

from __future__ import annotations

import argparse

from tests.attacks import table
from tests.attacks.cases import CASES
from tests.attacks.scene import run
from tests.virtual import run_cleanly


def main() -> None:
    parser = argparse.ArgumentParser(prog="./scripts/attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names (default: all)")
    parser.add_argument("--write", action="store_true", help="renew the table in docs/security.md")
    arguments = parser.parse_args()
    if arguments.write and arguments.names:
        parser.error("--write needs all of them")
    rows = []
    for case in CASES:
        if not arguments.names or any(name in case.name for name in arguments.names):
            rows.append(table.row(case, run_cleanly(run(case))))
            print(rows[-1], flush=True)
    if arguments.write:
        table.TABLE.write(rows)


if __name__ == "__main__":
    main()
