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
    assert caplog.messages[0].startswith(
        "ollama_otel failed while reading; the call goes on (further ones are counted only)\n"
    )


def test_the_log_says_where_and_nothing_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    quiet, content = Guard(), "the prompt"
    try:
        try:
            raise KeyError(content)
        except KeyError as cause:
            raise ValueError(content) from cause
    except ValueError as fault:
        quiet.caught("reading", fault)
    assert "KeyError (its message may have content)\n  which led to\n" in caplog.text
    assert caplog.text.endswith("ValueError (its message may have content)\n")
    assert caplog.text.count("in test_the_log_says_where") == 2
    assert content not in caplog.text
    # A handler that prints local variables finds no frames.
    assert caplog.records[0].exc_info is None


def test_a_long_chain_of_causes_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    fault: Exception = ValueError()
    for _ in range(5_000):
        later = ValueError()
        later.__cause__, fault = fault, later
    meet(Guard(), "reading", fault)
    assert caplog.text.count("ValueError (its message") == 5


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
