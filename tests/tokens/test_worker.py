"""The worker runs jobs in order, holds a bounded number, and outlives faults."""

from __future__ import annotations

import threading

import pytest

from ollama_otel._guard import guard
from ollama_otel._tokens.worker import Worker
from tests.scripts import run_script


def test_jobs_run_in_order_on_one_thread() -> None:
    worker, seen = Worker(), list[tuple[int, str]]()
    for number in range(50):
        job = lambda number=number: seen.append((number, threading.current_thread().name))  # noqa: E731
        assert worker.put(job)
    assert worker.drain(20)
    assert seen == [(number, "ollama-otel-tokens") for number in range(50)]


def test_what_waits_is_bounded() -> None:
    worker, gate, seen = Worker(), threading.Event(), list[int]()
    worker.put(gate.wait)
    accepted = sum(worker.put(lambda: seen.append(1), 1024 * 1024) for _ in range(100))
    assert accepted in {31, 32}
    assert sum(worker.put(lambda: None) for _ in range(1000)) < 256
    assert not worker.drain(0.01)
    gate.set()
    assert worker.drain(20)
    assert worker.put(lambda: seen.append(1), 1024 * 1024)
    assert worker.drain(20)
    assert len(seen) == accepted + 1


class Panic(BaseException):
    """As those of extensions in Rust."""


@pytest.mark.parametrize("kind", [ZeroDivisionError, Panic])
def test_a_fault_of_a_job_is_guarded(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    monkeypatch.setattr(guard, "loud", False)
    worker, seen = Worker(), list[int]()

    def fail() -> None:
        raise kind

    worker.put(fail)
    worker.put(lambda: seen.append(1))
    assert worker.drain(20)
    assert seen == [1]
    assert guard.faults[f"counting tokens: {kind.__name__}"] == 1
    guard.faults.clear()


@pytest.mark.processes
def test_the_end_of_a_process_waits_for_what_is_not_counted_yet() -> None:
    printed = run_script(
        """
        import time
        from ollama_otel._tokens.worker import Worker
        worker = Worker()
        worker.put(lambda: (time.sleep(0.2), print("counted")))
        """
    )
    assert printed.strip() == "counted"


@pytest.mark.processes
def test_a_child_has_a_worker_of_its_own() -> None:
    printed = run_script(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from ollama_otel._tokens.worker import Worker
        worker, gate = Worker(), threading.Event()
        worker.put(gate.wait)
        pid = os.fork()
        if not pid:
            worker.put(lambda: print("in the child", flush=True))
            os._exit(0 if worker.drain(20) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        gate.set()
        """
    )
    assert printed.strip() == "in the child"
