"""What an account may not do, in words for who meets it first."""

from __future__ import annotations

from personaplex_bridge.numbers.records import AccountInfo

TRIAL = (
    "a trial account: new ones may not use <Stream>, so calls end as soon as they are answered, "
    "and only numbers that you have verified can call. Upgrade it in Twilio's console."
)

FEW_CALLS = (
    "an upgraded account without a customer profile has 2 calls at a time "
    "(Twilio's console: Trust Hub)"
)

NGROK_FREE = "a free ngrok account moves 1 GB out a month, which is about 16 hours of calls"


def of(account: AccountInfo) -> str:
    """What this account may not do."""
    return TRIAL if account.is_trial else FEW_CALLS
