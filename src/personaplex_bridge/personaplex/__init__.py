"""The model server's side of the bridge: NVIDIA PersonaPlex, and servers that speak like it."""
