"""Settings of Hypothesis for all tests."""

from hypothesis import settings

settings.register_profile("project", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("project")
