"""A real Prometheus for the whole folder, configured as in `dashboards/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.real.servers import RealPrometheus, ServerNotInstalledError, run_prometheus


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """An empty Prometheus; each test sends its own metric."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(run_prometheus(tmp_path_factory.mktemp("prometheus")))
        except ServerNotInstalledError as error:
            if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        yield server
