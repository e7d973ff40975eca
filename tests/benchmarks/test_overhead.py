"""A guard against a slip by a lot; what it really costs is measured by `overhead.py`."""

from __future__ import annotations

import json
import subprocess
import sys


def test_recording_costs_no_more_than_it_should_by_far() -> None:
    # In a process of its own: coverage would trace our code and not the official client's.
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.overhead", "--rounds", "7", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    ratios = json.loads(done.stdout)
    assert ratios["one more chunk"]["drop-in"] < 0.8
    assert ratios["one more chunk"]["instrumented"] < 1.35
    assert ratios["stream of 200 chunks"]["drop-in"] < 1.0
    assert ratios["single chat"]["drop-in"] < 2.4
    assert ratios["single chat"]["instrumented"] < 3.0
    assert ratios["5 MB image"]["drop-in"] < 1.2
