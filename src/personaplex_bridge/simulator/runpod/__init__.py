"""A stand-in for RunPod: its REST API v2, its pods, and the proxy in front of them."""

from personaplex_bridge.simulator.runpod.account import Account, Holdings
from personaplex_bridge.simulator.runpod.pods import Pace, RunPodContainer
from personaplex_bridge.simulator.runpod.rates import Quota
from personaplex_bridge.simulator.runpod.server import KEY, Options, RunPodServer, Trouble
from personaplex_bridge.simulator.runpod.stock import Gpu, Volume

__all__ = [
    "KEY",
    "Account",
    "Gpu",
    "Holdings",
    "Options",
    "Pace",
    "Quota",
    "RunPodContainer",
    "RunPodServer",
    "Trouble",
    "Volume",
]
