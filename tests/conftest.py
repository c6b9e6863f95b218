"""For all tests: in CI, property tests draw the same examples each time, so that a failure is one of the change."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
