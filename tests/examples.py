"""How many examples the property tests try: few while developing, all of them in CI."""

from __future__ import annotations

import os

from hypothesis import settings

__all__ = ["examples", "load_profile"]

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("dev", deadline=None, max_examples=20)
# The same examples in each run, so that a change is blamed for its own faults only.
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True, print_blob=True)
# For a search at night: new examples, and many.
settings.register_profile("search", deadline=None, max_examples=1000)

_SHARE = {"dev": 0.1, "ci": 1.0, "search": 10.0}


def load_profile() -> None:
    """Load the profile that `HYPOTHESIS_PROFILE` names; by default `ci` in CI, else `dev`."""
    settings.load_profile(
        os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev")
    )


def examples(in_ci: int) -> int:
    """Return how many examples the profile wants of a test that tries this many in CI."""
    profile = settings.get_current_profile_name()
    return max(5, round(in_ci * _SHARE[profile]))
