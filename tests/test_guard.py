"""A fault of ours is logged once, counted each time, and raised only in tests."""

from __future__ import annotations

import logging
import threading

import pytest

from ollama_otel._guard import Guard, guard


def meet(guard: Guard, where: str, fault: Exception) -> None:
    try:
        raise fault
    except Exception as caught:
        guard.caught(where, caught)


def test_the_library_is_quiet_by_itself() -> None:
    assert Guard().loud is False


def test_tests_are_loud() -> None:
    assert guard.loud is True


@pytest.mark.usefixtures("quiet_guard")
def test_the_fixture_for_injected_faults_is_quiet_and_clean() -> None:
    assert guard.loud is False
    assert not guard.faults


def test_a_loud_guard_raises_the_fault_itself() -> None:
    loud = Guard()
    loud.loud = True
    fault = ValueError("boom")
    with pytest.raises(ValueError, match="boom") as caught:
        meet(loud, "reading", fault)
    assert caught.value is fault
    assert loud.faults == {"reading: ValueError": 1}


def test_each_kind_is_logged_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    quiet = Guard()
    for _ in range(3):
        meet(quiet, "reading", ValueError("boom"))
    meet(quiet, "reading", KeyError("x"))
    meet(quiet, "writing", ValueError("boom"))
    assert quiet.faults == {
        "reading: ValueError": 3,
        "reading: KeyError": 1,
        "writing: ValueError": 1,
    }
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("ollama_otel", logging.WARNING)
    ] * 3
    assert caplog.messages[0] == (
        "ollama_otel failed while reading; the call goes on (further ones are counted only)"
    )


def test_the_log_says_where_and_not_what_the_fault_says(caplog: pytest.LogCaptureFixture) -> None:
    fault = ValueError("canary")
    fault.__cause__ = KeyError("canary")
    meet(Guard(), "reading", fault)
    assert "ValueError, raised in:\n" in caplog.text
    assert "in meet" in caplog.text
    assert "Caused by KeyError" in caplog.text
    assert "canary" not in caplog.text
    # A handler may print all local variables of a traceback.
    assert caplog.records[0].exc_info is None


def test_threads_count_together() -> None:
    quiet = Guard()
    logging.getLogger("ollama_otel").setLevel(logging.CRITICAL)
    try:
        threads = [
            threading.Thread(
                target=lambda: [meet(quiet, "reading", ValueError()) for _ in range(200)]
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        logging.getLogger("ollama_otel").setLevel(logging.NOTSET)
    assert quiet.faults == {"reading: ValueError": 1_600}
