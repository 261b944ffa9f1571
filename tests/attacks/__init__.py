"""Attacks on a running bridge, over real sockets, and the table of them in docs/security.md.

`./scripts/attacks` runs them; tests/live/test_attacks.py checks that the table is what running
them gives. A case is a function that attacks a `Scene` and says what was answered.
"""
