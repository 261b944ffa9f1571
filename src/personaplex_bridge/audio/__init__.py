"""Sound: codecs, containers, transcoders. Synchronous, no sockets.

PCM is always a one-dimensional numpy array of int16, mono; mu-law is always bytes at 8 kHz.
"""
