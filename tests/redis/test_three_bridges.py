"""Three bridges, as processes, one of which is killed: `./scripts/proof-leases` in short."""

from __future__ import annotations

from pathlib import Path

from tests.leaks import nothing_left_behind
from tests.redis.proof import Plan, prove

SHORT = Plan(
    calls=15,
    servers=4,
    ttl_s=2.0,
    call_every_s=0.4,
    shortest_s=1.0,
    longest_s=2.0,
    kill_every_s=4.0,
    dead_for_s=0.5,
    when_busy="reject",
)


async def test_never_two_connections_on_one_server_and_no_lease_left(tmp_path: Path) -> None:
    async with nothing_left_behind():
        result = await prove(SHORT, tmp_path)
    assert result["connections_beside_another"] == 0, result
    assert sum(each["with_anothers_prompt"] for each in result["servers_saw"]) == 0
    outcomes = result["what_became_of_the_calls"]
    assert sum(sum(of.values()) for of in outcomes.values()) == SHORT.calls
    assert outcomes["their_bridge_lived"].keys() <= {"the caller hung up", "rejected: busy"}
    assert result["calls_that_heard_the_model"] > 0
    assert result["kills"]
    assert result["leases_when_quiet"]["of_calls"] == 0
    assert result["leases_left_when_all_have_ended"] == 0
    assert result["calls_at_once_afterwards"]["heard_the_model"] == SHORT.servers
