"""Whether the model's weights can be downloaded: asked before an hour is spent on finding out."""

from __future__ import annotations

import logging

import aiohttp

from personaplex_bridge import logs
from personaplex_bridge.gate import cache
from personaplex_bridge.gate.settings import GateSettings, missing_secret

ASK_TIMEOUT_S = 10.0
LICENCE_PAGE = f"https://huggingface.co/{cache.MODEL}"
TOKENS_PAGE = "https://huggingface.co/settings/tokens"

_log = logging.getLogger(f"{logs.NAME}.gate")


async def problem_with(settings: GateSettings) -> str | None:
    """Why the weights can't be had, and what to do; None if they can, or nobody can say.

    Weights that are there already need neither token nor licence, and without HF_HOME nothing is
    known of them.
    """
    if settings.hf_home is None or cache.is_complete(settings.hf_home):
        return None
    if (name := missing_secret(settings.hf_token)) is not None:
        return (
            f"HF_TOKEN asks for the RunPod secret {name}, which doesn't exist: make it in RunPod's "
            f"console under Secrets, with a read token from {TOKENS_PAGE}"
        )
    if not settings.hf_token:
        return f"HF_TOKEN is not set: the weights need a read token from {TOKENS_PAGE}"
    try:
        status = await _ask(settings.hf_endpoint, settings.hf_token)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        why = type(error).__name__
        _log.warning("no answer from %s (%s): going on", settings.hf_endpoint, why)
        return None
    return _problem(status, settings.hf_endpoint)


async def _ask(endpoint: str, token: str) -> int:
    """The status of a small file of the model's. Redirects aren't followed: the token is for one
    host only.
    """
    url = f"{endpoint}/{cache.MODEL}/resolve/main/config.json"
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as http,
        http.head(url, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status


def _problem(status: int, endpoint: str) -> str | None:
    match status:
        case 401:
            return f"{endpoint} refuses HF_TOKEN: make a read token at {TOKENS_PAGE}"
        case 403:
            return (
                f"the licence of {cache.MODEL} has not been accepted with the account of HF_TOKEN, "
                f"or the token may not read gated models: accept it at {LICENCE_PAGE}"
            )
        case _ if status < 400:
            return None
        case _:
            _log.warning("%s answers HTTP %d about the weights: going on", endpoint, status)
            return None
