"""Stand-ins for both sides of the bridge: a caller at Twilio, and a model server.

They keep the two services' contracts strictly (docs/protocol.md), so that what works against
them has a fair chance against the real ones.
"""
