"""`personaplex-bridge dev`: a bridge on a laptop, reachable by phone while it runs."""
