"""What holds for every test: faults of our own are loud, and the environment is empty of ours."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from ollama_otel._exchange import open_calls
from ollama_otel._guard import guard
from ollama_otel.testing import Capture
from tests.examples import load_profile

# Before the modules of tests are imported: their settings ask for the profile.
load_profile()


def pytest_configure() -> None:
    """Let an interrupt interrupt: a shell's background job ignores it, and so do its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# --- markers ------------------------------------------------------------------------------

_MARKER_OF = {
    "subprocess.Popen": "processes",
    "os.fork": "processes",
    "os.posix_spawn": "processes",
    "socket.bind": "sockets",
    "socket.connect": "sockets",
}
"""Audit events of Python, and the marker of tests that cause them."""
_used: set[str] = set()


def _notice(event: str, _: object) -> None:
    # Threads that an earlier test has left say nothing of this one.
    if event in _MARKER_OF and threading.current_thread() is threading.main_thread():
        _used.add(_MARKER_OF[event])


sys.addaudithook(_notice)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark property tests; and as slow what starts a process, which imports everything anew."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("property")
        if item.get_closest_marker("processes"):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def honest_markers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process or opens a socket without the marker that says so."""
    _used.clear()
    yield
    if request.node.get_closest_marker("real"):
        return
    missing = {marker for marker in _used if not request.node.get_closest_marker(marker)}
    assert not missing, f"the test needs the markers {sorted(missing)}"


# --- isolation ----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def loud_guard() -> Iterator[None]:
    """Let no fault of ours hide; a test that injects one says so with `quiet_guard`."""
    guard.loud = True
    yield
    guard.loud = False


@pytest.fixture(autouse=True)
def no_open_calls() -> Iterator[None]:
    """Let no test end the calls that another has left open."""
    yield
    open_calls._open.clear()


@pytest.fixture
def quiet_guard(loud_guard: None) -> Iterator[None]:
    """As it is in production: faults are logged once, counted, and kept from the caller."""
    guard.loud = False
    guard.faults.clear()
    yield
    guard.faults.clear()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own set-up reaches a test."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "OLLAMA_")) and name not in {
            "OLLAMA_OTEL_TEST_SERVERS",
            "OLLAMA_OTEL_REQUIRE_REAL",
        }:
            monkeypatch.delenv(name)


@pytest.fixture
def capture() -> Capture:
    """Spans, metrics, events and records of this test."""
    return Capture()


def pytest_collection_finish() -> None:
    """Take the thousands of tests out of the garbage collector's way."""
    gc.collect()
    gc.freeze()
