"""The thread that writes: in order, with retries, never in the way, and with true counts."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from ollama_otel._log.writer import Writer


class Disk:
    """Takes lines, refuses them, or takes its time."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.refusals = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_closed = False

    def append(self, data: bytes) -> None:
        self.may_go_on.wait(20)
        if self.refusals:
            self.refusals -= 1
            raise OSError("no")
        self.lines += data.splitlines()

    def close(self) -> None:
        self.is_closed = True


def writer(disk: Disk, **options: Any) -> Writer:
    return Writer(
        render=lambda entry: f"{entry}\n".encode(),
        append=disk.append,
        tidy_up=lambda: 0,
        close=disk.close,
        dropped_line=lambda lines, bodies: f"dropped {lines} {bodies}\n".encode(),
        **options,
    )


@pytest.mark.slow
def test_entries_are_written_in_their_order() -> None:
    disk = Disk()
    each = writer(disk)
    for number in range(1000):
        each.put(number)
    assert each.close()
    assert disk.lines == [b"%d" % number for number in range(1000)]
    assert each.statistics.written == 1000
    assert disk.is_closed


def test_without_an_entry_there_is_no_thread_and_nothing_to_wait_for() -> None:
    disk = Disk()
    before = threading.active_count()
    each = writer(disk)
    assert each.flush(0)
    assert each.close()
    assert threading.active_count() == before


def test_one_that_has_ended_is_not_waited_for_again() -> None:
    each = writer(Disk())
    each.put("a")
    assert each.close()
    began = time.monotonic()
    assert each.flush(20)
    assert each.close(20)
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_what_is_refused_is_tried_again_in_order() -> None:
    disk = Disk()
    disk.refusals = 2
    each = writer(disk)
    each.put("a")
    time.sleep(0.05)
    each.put("b")
    assert each.flush(10)
    assert disk.lines == [b"a", b"b"]
    statistics = each.statistics
    assert (statistics.failed_writes, statistics.dropped_lines) == (2, 0)
    assert statistics.pending_lines == 0
    each.close()


@pytest.mark.slow
def test_lines_that_cannot_be_written_are_pending_and_requests_to_flush_are_not_lines() -> None:
    disk = Disk()
    disk.refusals = 10_000
    each = writer(disk)
    for number in range(700):
        each.put(number)
    assert not each.flush(0.3)
    assert not each.flush(0.3)
    assert each.statistics.pending_lines == 700
    backlog = each.backlog()
    assert backlog.pending_lines == 700
    assert backlog.failed_writes >= 1
    disk.refusals = 0
    assert each.flush(20)
    assert each.statistics.pending_lines == 0
    assert each.backlog().failed_writes == each.statistics.failed_writes
    each.close()
    assert each.statistics.pending_lines == 0


@pytest.mark.slow
def test_more_lines_than_may_wait_are_dropped_counted_and_stated_in_the_log() -> None:
    disk = Disk()
    disk.may_go_on.clear()
    each = writer(disk, max_lines=10)
    each.put("first")
    time.sleep(0.1)
    for number in range(25):
        each.put(number)
    disk.may_go_on.set()
    assert each.flush(10)
    assert each.statistics.dropped_lines == 15
    assert b"dropped 15 0" in disk.lines
    assert [line for line in disk.lines if line.isdigit()] == [
        b"%d" % number for number in range(10)
    ]
    each.close()


@pytest.mark.slow
def test_more_bytes_than_may_wait_are_refused_before_they_are_put() -> None:
    disk = Disk()
    disk.may_go_on.clear()
    each = writer(disk, max_bytes=100)
    assert each.has_room(100)
    each.put("a", 60)
    time.sleep(0.1)
    # Rendered ones wait no longer, so this is about those behind.
    each.put("b", 60)
    assert not each.has_room(50)
    assert each.has_room(40)
    disk.may_go_on.set()
    assert each.flush(10)
    assert each.has_room(100)
    assert each.statistics.dropped_bodies == 1
    each.close()


def test_an_entry_that_cannot_be_rendered_is_one_line_less(quiet_guard: None) -> None:
    disk = Disk()

    def render(entry: int) -> bytes:
        return b"%d\n" % (1 / (entry - 1) + entry)

    each = Writer(
        render=render,
        append=disk.append,
        tidy_up=lambda: 0,
        close=disk.close,
        dropped_line=lambda lines, _: b"less\n",
    )
    for number in (0, 1, 3):
        each.put(number)
    assert each.flush(10)
    assert disk.lines == [b"-1", b"3", b"less"]
    assert each.statistics.dropped_lines == 1
    each.close()


def test_a_fault_of_ours_while_writing_is_counted_and_the_next_line_written(
    quiet_guard: None,
) -> None:
    disk = Disk()

    def append(data: bytes) -> None:
        if data == b"bad\n":
            raise ValueError("embedded null byte")
        disk.append(data)

    each = Writer(
        render=lambda entry: f"{entry}\n".encode(),
        append=append,
        tidy_up=lambda: 0,
        close=disk.close,
        dropped_line=lambda lines, bodies: f"dropped {lines}\n".encode(),
    )
    each.put("bad")
    assert each.flush(10)
    each.put("good")
    assert each.flush(10)
    assert disk.lines == [b"good", b"dropped 1"]
    assert each.statistics.dropped_lines == 1
    each.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
def test_a_signal_that_comes_in_the_middle_of_a_call_may_put_too() -> None:
    disk = Disk()
    each = writer(disk, max_lines=100_000)
    interrupted = 0

    def put_from_signal(*_: object) -> None:
        nonlocal interrupted
        interrupted += 1
        each.put("signal", 1)

    previous = signal.signal(signal.SIGALRM, put_from_signal)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(20_000):
            each.put(number, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert each.close(20)
    assert interrupted > 0
    assert each.statistics.written == 20_000 + interrupted
    assert [line for line in disk.lines if line != b"signal"] == [b"%d" % n for n in range(20_000)]
    assert each.has_room(64 * 1024 * 1024) is True
