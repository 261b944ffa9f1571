"""Measurements of the bridge. `./scripts/bench --help` tells which."""
