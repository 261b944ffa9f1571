"""Recordings of calls: what was said on either side, in the phone's time, as stereo Ogg Opus."""
