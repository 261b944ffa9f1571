"""Libraries of others that the pages use, as npm's registry has them, and what serves them.

scripts/vendor puts them here; `vendored.json` names versions, licences and checksums.
"""
