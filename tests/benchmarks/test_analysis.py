"""An import takes a fraction of the time of reading the log call by call."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ollama_otel.analysis import open_log
from ollama_otel.replay import read

from .analysis import write_log

CALLS = 20_000
ROUNDS = 3


@pytest.mark.slow
def test_importing_is_faster_than_reading(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    write_log(log, CALLS)
    ratios = []
    for _ in range(ROUNDS):
        began = time.process_time()
        with open_log(log, cache=False) as calls:
            assert len(calls) == CALLS
        imported = time.process_time() - began
        began = time.process_time()
        assert sum(1 for _ in read(log)) == CALLS
        ratios.append(imported / (time.process_time() - began))
    # About 0.6, and 0.35 with a million calls.
    assert min(ratios) < 1.0
