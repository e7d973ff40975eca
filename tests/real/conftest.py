"""Fixtures that run real servers for the whole session; without the servers their tests are skipped, or fail in CI."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest
from _pytest.runner import runtestprotocol

from .scripted_workload import Workload, run_workload
from .servers import (
    RealJaeger,
    RealOllama,
    ServerNotInstalledError,
    StuckServerWarning,
    create_models,
    run_jaeger,
    run_ollama,
    run_prometheus,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from .servers import RealPrometheus, Translation

HERE = Path(__file__).parent
SHARED_OLLAMA = pytest.StashKey[RealOllama]()
HANG_SECONDS = 120.0
"""Some fifteen times what the slowest of these tests takes."""
MOST_RUNS = 3
"""Of a test that meets a stuck server each time."""
PATIENCE = 20.0
"""Seconds for one token of a tiny model in memory, which takes milliseconds; a slow machine costs a reload."""


class StartOllama(Protocol):
    """Runs a further server inside a `with`, with the models of the first and settings of its own."""

    def __call__(
        self, *, port: int | None = None, **environment: str
    ) -> AbstractContextManager[RealOllama]: ...


class StartPrometheus(Protocol):
    """Runs a Prometheus inside a `with`, as we ship its configuration but for what is said."""

    def __call__(
        self,
        *,
        scrape: Mapping[str, str] | None = None,
        classic: bool = False,
        translation: Translation | None = None,
    ) -> AbstractContextManager[RealPrometheus]: ...


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real: runs against real servers, installed by tests/real/install.py"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("real")
            fixtures = getattr(item, "fixturenames", ())
            # A call that hangs costs this and not the suite's limit; only the workload takes long.
            if "real_ollama" in fixtures and "workload" not in fixtures:
                item.add_marker(pytest.mark.timeout(HANG_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test again that failed while the server was stuck: see `RealOllama.recover`.

    Tests that leave a stream and then ask again meet this fault of the server now and then.
    """
    if "real_ollama" not in getattr(item, "fixturenames", ()):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for run in range(MOST_RUNS):
        if run:
            item._initrequest()  # its fixtures are made anew
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        server = item.config.stash.get(SHARED_OLLAMA, None)
        has_failed = any(report.failed for report in reports)
        if not has_failed or server is None or server.answers(seconds=PATIENCE):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let no test inherit a stuck server: it would hang, and so would all that follow.

    Not a fixture, as those of a module come before those of a test.
    """
    server = item.config.stash.get(SHARED_OLLAMA, None)
    if server is None or "real_ollama" not in getattr(item, "fixturenames", ()):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always", StuckServerWarning)
        try:
            server.recover(seconds=PATIENCE)
        except TimeoutError as error:
            item.session.shouldfail = f"{error}; its log is {server.log}"
            raise


@pytest.fixture(scope="session", autouse=True)
def _no_proxy_for_this_machine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def real_ollama(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[RealOllama]:
    """An Ollama server with one slot and the models tiny-agent, tiny-thinker and tiny-embed.

    Before each test that uses it, it is seen to answer.
    """
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(run_ollama(tmp_path_factory.mktemp("ollama")))
        except ServerNotInstalledError as error:
            do_without(error)
        create_models(server.url)
        pytestconfig.stash[SHARED_OLLAMA] = server
        yield server
        del pytestconfig.stash[SHARED_OLLAMA]


@pytest.fixture
def cold_ollama(real_ollama: RealOllama) -> RealOllama:
    """The same server with no model in memory."""
    real_ollama.unload_all()
    return real_ollama


@pytest.fixture
def start_ollama(real_ollama: RealOllama, tmp_path_factory: pytest.TempPathFactory) -> StartOllama:
    """Start further servers with settings of their own.

    Used as `with start_ollama(OLLAMA_NUM_PARALLEL="2") as server:`.
    With `port=` a server comes back where it was before.
    """

    def start(*, port: int | None = None, **environment: str) -> AbstractContextManager[RealOllama]:
        folder = tmp_path_factory.mktemp("ollama")
        return run_ollama(folder, models=real_ollama.models, port=port, environment=environment)

    return start


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealJaeger]:
    """A Jaeger that takes OTLP and answers queries."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(run_jaeger(tmp_path_factory.mktemp("jaeger")))
        except ServerNotInstalledError as error:
            do_without(error)
        yield server


@pytest.fixture
def start_prometheus(tmp_path_factory: pytest.TempPathFactory) -> StartPrometheus:
    """Start Prometheus servers, used as `with start_prometheus(classic=True) as prometheus:`."""

    @contextlib.contextmanager
    def start(**chosen: Any) -> Iterator[RealPrometheus]:
        with contextlib.ExitStack() as stack:
            folder = tmp_path_factory.mktemp("prometheus")
            try:
                server = stack.enter_context(run_prometheus(folder, **chosen))
            except ServerNotInstalledError as error:
                do_without(error)
            yield server

    return start


@pytest.fixture(scope="session")
def workload(
    real_ollama: RealOllama, jaeger: RealJaeger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workload]:
    """The scripted workload, run once; its metrics are in Prometheus by OTLP and scraping."""
    with contextlib.ExitStack() as stack:
        run = run_workload(tmp_path_factory.mktemp("workload"), real_ollama, jaeger)
        try:
            workload = stack.enter_context(run)
        except ServerNotInstalledError as error:
            do_without(error)
        yield workload


@pytest.fixture(params=["native", "classic"])
def prometheus(request: pytest.FixtureRequest, workload: Workload) -> RealPrometheus:
    """Both servers that received the workload: with native histograms, as shipped, and classic ones."""
    native, classic = workload.prometheus
    return native if request.param == "native" else classic


def do_without(error: ServerNotInstalledError) -> NoReturn:
    """Skip a test without the server, or fail in CI."""
    if os.environ.get("OLLAMA_OTEL_REQUIRE_REAL") == "1":
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))
