"""Limiters and breakers of these tests are on the metrics of no other test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ollama_otel._resilience import registry


@pytest.fixture(autouse=True)
def _seen_here_only() -> Iterator[None]:
    yield
    # A task of an event loop that was closed may keep one alive.
    registry._all.clear()
