"""How often an address may ask."""

from __future__ import annotations

import pytest

from personaplex_bridge.web import rates
from personaplex_bridge.web.rates import RateLimit
from tests.clocks import HandClock


def test_so_many_at_once_and_then_so_many_a_second() -> None:
    clock = HandClock()
    limit = RateLimit(5, clock)
    assert [limit.take("192.0.2.1") for _ in range(5)] == [0.0] * 5
    assert limit.take("192.0.2.1") == pytest.approx(0.2)
    assert limit.take("192.0.2.2") == 0.0, "another address"
    taken = 0
    for _ in range(1000):
        clock.at_s += 0.01
        taken += limit.take("192.0.2.1") == 0.0
    assert taken == pytest.approx(50, abs=1)
    clock.at_s += 3600
    assert [limit.take("192.0.2.1") == 0.0 for _ in range(6)] == [True] * 5 + [False]


def test_a_network_of_one_customer_is_one_address() -> None:
    limit = RateLimit(1, HandClock())
    assert limit.take("2001:db8::1") == 0.0
    assert limit.take("2001:db8::2") > 0
    assert limit.take("2001:db8:0:1::1") == 0.0
    assert limit.take("192.0.2.1") == limit.take("192.0.2.2") == 0.0


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_ADDRESSES", 3)
    limit = RateLimit(1, HandClock())
    for last in (1, 2, 3, 1, 4, 5):
        limit.take(f"192.0.2.{last}")
    assert len(limit) == 3
    assert limit.take("192.0.2.1") > 0, "who has asked lately is remembered"
    assert limit.take("192.0.2.2") == 0.0, "who was silent for longest is not"
