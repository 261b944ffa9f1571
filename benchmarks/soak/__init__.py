"""Many calls for a long time, some of them in trouble: does anything leak, do others notice?"""
