"""`./scripts/proof-leases`: 500 calls over three bridges that share eight model servers by Redis,
with a bridge killed every 20 s. Writes benchmarks/results/leases.json.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from tests.redis.proof import Plan, prove

RESULT = Path(__file__).parents[2] / "benchmarks/results/leases.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="./scripts/proof-leases", description=__doc__)
    parser.add_argument("--calls", type=int, default=Plan().calls)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    plan = dataclasses.replace(Plan(), calls=arguments.calls)
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(prove(plan, Path(folder)))
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    document = {"date": date, "machine": machine.describe(), **result}
    arguments.out.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    orphans = result["leases_left_when_all_have_ended"] + result["leases_when_quiet"]["of_calls"]
    return int(result["connections_beside_another"] > 0 or orphans > 0)


if __name__ == "__main__":
    sys.exit(main())
