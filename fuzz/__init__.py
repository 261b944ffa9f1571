"""Fuzzing of what reads bytes from outside. `./scripts/fuzz --help` tells how."""
