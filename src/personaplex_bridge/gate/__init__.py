"""What stands in front of one PersonaPlex server: who gets in, one session at a time, health.

The published server has no authentication and no health route, and lets a second connection change
the persona of the call in progress. Needs aiohttp and the standard library, nothing else.
"""
