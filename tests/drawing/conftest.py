"""Tests that draw boards need Node, Chromium and Prometheus; they are skipped without, or fail in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.drawing.drawing import Drawer, start_drawer
from tests.drawing.installation import CannotDrawError, browser, bundle

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real: runs against real servers, installed by tests/real/install.py"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("real")


# Of a module: while its Chromium runs, no other test in the thread can start an event loop.
@pytest.fixture(scope="module")
def drawer() -> Iterator[Drawer]:
    """Draws boards."""
    try:
        browser()
        bundle()
    except CannotDrawError as error:
        do_without(error)
    with start_drawer() as drawer:
        yield drawer


def do_without(error: Exception) -> NoReturn:
    """Skip a test without what it needs, or fail in CI."""
    if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))
