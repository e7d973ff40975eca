"""The benchmark of the replay log runs, and what it finds is not absurd."""

from __future__ import annotations

from pathlib import Path

import pytest

from .replay_log import measure, measure_reading, measure_rendering

pytestmark = pytest.mark.slow


def test_a_log_costs_the_caller_some_microseconds(tmp_path: Path) -> None:
    figures = measure(2, tmp_path)
    for variant in ("facts", "bodies"):
        # Loose enough for any machine, and far below what parsing on the caller's thread takes.
        assert figures["caller"]["us a chunk"][variant] < 20
        assert figures["caller"]["us a call"][variant] < 2000


def test_a_line_is_rendered_in_some_tens_of_plain_encodings() -> None:
    for costs in measure_rendering(3).values():
        # Three times as many as measured.
        assert costs["plain encodings"] < 150


def test_a_log_is_read_call_by_call(tmp_path: Path) -> None:
    figures = measure_reading(2_000, tmp_path)
    # Three times as many as measured.
    assert figures["plain decodings"] < 27
    assert figures["calls"] == 2_000
    assert figures["bytes more at the peak"] < 500_000
