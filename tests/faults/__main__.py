"""`./scripts/faults`: break things around a bridge, and tell what its callers hear."""

from __future__ import annotations

import argparse
import logging

from tests.faults import table
from tests.faults.cases import CASES
from tests.faults.scene import play_all

_DESCRIPTION = """\
Plays each fault on real sockets, beside another call that must notice nothing, and tells what the
caller heard (from the sound itself), how the call ended, and what was left behind. A few take
real time and processes of their own; the others run in virtual time, a second or two each.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./scripts/faults",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names (default: all)")
    parser.add_argument(
        "--write", action="store_true", help="renew the table in docs/reliability.md"
    )
    arguments = parser.parse_args()
    if arguments.write and arguments.names:
        parser.error("--write needs all of them")
    logging.disable(logging.CRITICAL)  # what goes wrong is told by the rows
    names = arguments.names or [""]
    rows = []
    for told in play_all([case for case in CASES if any(name in case.name for name in names)]):
        rows.append(table.row(told))
        print(rows[-1], flush=True)
    if arguments.write:
        table.TABLE.write(rows)


if __name__ == "__main__":
    main()
