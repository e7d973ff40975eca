"""What holds for every test: faults of our own are loud, and the environment is empty of ours."""

from __future__ import annotations

import os
import signal
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
