"""The live tail: events as they come, through rotation, torn lines and files that are not there yet."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._log.format import LoggedEnd, LoggedStart, event_from
from ollama_otel._log.tail import LoggedEvent, LogTail

from .event_lines import append, end, line


def numbers(events: Iterable[LoggedEvent]) -> list[int]:
    return [int(event.id.partition("-")[2]) for event in events]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_the_last_events_come_first_and_then_only_new_ones(log: Path) -> None:
    append(log, *map(line, range(20)))
    with LogTail(log) as followed:
        assert numbers(followed.latest(3)) == [17, 18, 19]
        assert followed.new() == []
        append(log, line(20))
        assert numbers(followed.new()) == [20]


def test_no_events_first_means_none(log: Path) -> None:
    append(log, line(1))
    with LogTail(log) as followed:
        assert followed.latest(0) == []
        append(log, line(2))
        assert numbers(followed.new()) == [2]


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    whole = line(2)
    append(log, line(1), whole[:20])
    with LogTail(log) as followed:
        assert numbers(followed.latest(10)) == [1]
        assert followed.new() == []
        append(log, whole[20:-1])
        assert followed.new() == []
        append(log, whole[-1:])
        assert numbers(followed.new()) == [2]


def test_a_rotated_file_is_read_to_its_end_and_not_again(log: Path) -> None:
    append(log, line(1))
    with LogTail(log) as followed:
        assert numbers(followed.latest(10)) == [1]
        append(log, line(2))
        log.rename(log.with_name("calls.20260102T030405000006Z-7.jsonl"))
        append(log, line(3))
        assert numbers(followed.new()) == [2, 3]
        append(log, line(4))
        assert numbers(followed.new()) == [4]


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file cannot be deleted")
def test_what_was_written_before_a_file_was_compressed_is_not_lost(log: Path) -> None:
    append(log, line(1))
    with LogTail(log) as followed:
        followed.latest(10)
        append(log, line(2))
        archived = log.with_name("calls.20260102T030405000006Z-7.jsonl.gz")
        archived.write_bytes(gzip.compress(log.read_bytes()))
        log.unlink()
        append(log, line(3))
        assert numbers(followed.new()) == [2, 3]
        assert followed.new() == []


def test_an_emptied_file_is_read_from_its_beginning(log: Path) -> None:
    append(log, line(1), line(2))
    with LogTail(log) as followed:
        followed.latest(10)
        log.write_bytes(line(3))
        assert numbers(followed.new()) == [3]


def test_the_files_of_all_processes_are_followed_by_time(log: Path) -> None:
    append(log, line(1), line(4))
    append(log.with_name("calls.pid123.jsonl"), line(2), line(3))
    append(log.with_name("calls2.jsonl"), line(9))
    append(log.with_name("notes.jsonl"), line(9))
    with LogTail(log) as followed:
        assert numbers(followed.latest(3)) == [2, 3, 4]
        append(log.with_name("calls.pid456.jsonl"), line(6))
        append(log, line(5), line(7))
        assert numbers(followed.new()) == [5, 6, 7]


def test_a_folder_stands_for_all_logs_in_it(log: Path) -> None:
    append(log, line(1))
    append(log.with_name("other.jsonl"), line(2))
    append(log.with_name("other.txt"), line(3))
    with LogTail(log.parent) as followed:
        assert numbers(followed.latest(10)) == [1, 2]


def test_a_log_without_a_suffix_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "mylog"
    append(log, line(1))
    append(tmp_path / "mylog.pid7", line(2))
    append(tmp_path / "mylog.notes", line(9))
    with LogTail(log) as followed:
        assert numbers(followed.latest(10)) == [1, 2]
        append(log, line(3))
        assert numbers(followed.new()) == [3]


def test_archived_files_are_not_read(log: Path) -> None:
    append(log, line(2))
    archived = log.with_name("calls.20260102T030405000006Z-7.jsonl.gz")
    archived.write_bytes(gzip.compress(line(1)))
    with LogTail(log) as followed:
        assert followed.files() == [log]


@pytest.mark.slow
def test_bodies_are_not_kept(log: Path) -> None:
    size = 1_000_000
    append(log, *(end(number, chunks=[[0.1, "x" * size]], body="y" * size) for number in range(9)))
    with LogTail(log) as followed:
        tracemalloc.start()
        try:
            assert numbers(followed.latest(100)) == [*range(9)]
            peaks = [tracemalloc.get_traced_memory()[1]]
            append(log, *(line(number, body="y" * size) for number in range(10, 20)))
            tracemalloc.reset_peak()
            assert numbers(followed.new()) == [*range(10, 20)]
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # Of one line at a time there are its bytes, its text and its values, of 18 and 10 MB in all.
    assert peaks[0] < 14 * size
    assert peaks[1] < 8 * size


def test_a_file_and_a_folder_that_come_later_are_found(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "calls.jsonl"
    with LogTail(log) as followed:
        assert followed.latest(10) == []
        assert followed.new() == []
        log.parent.mkdir()
        append(log, line(1))
        assert numbers(followed.new()) == [1]


def test_unknown_events_and_torn_lines_are_passed_over(log: Path) -> None:
    append(log, line(1, "opened"), b'{"v":1,"event":"req\n', b"[1]\n\xff\n\n", line(2))
    with LogTail(log) as followed:
        assert numbers(followed.latest(1)) == [2]
        append(log, line(3, "new kind"), line(4), b"\n", line(5))
        assert numbers(followed.new()) == [4, 5]


@pytest.mark.parametrize("size", [10, 70_000, 200_000])
def test_the_end_of_a_long_file_is_found_without_its_beginning(log: Path, size: int) -> None:
    padding = "x" * size
    append(log, *(line(number, padding=padding) for number in range(12)))
    with LogTail(log) as followed:
        assert numbers(followed.latest(5)) == [7, 8, 9, 10, 11]


@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["", "rotate", "look"])), max_size=30)
)
def test_however_it_is_written_each_event_comes_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    log = tmp_path_factory.mktemp("followed") / "calls.jsonl"
    rest = b"".join(map(line, range(20)))
    seen: list[int] = []
    with LogTail(log) as followed:
        seen += numbers(followed.latest(100))
        for count, (size, action) in enumerate([*steps, (len(rest), "look")]):
            # A writer rotates between lines only.
            cut = rest[:size].rfind(b"\n") + 1 if action == "rotate" else size
            append(log, rest[:cut])
            rest = rest[cut:]
            if action == "rotate" and log.read_bytes()[-1:] in {b"", b"\n"}:
                log.rename(log.with_name(f"calls.20260102T030405{count:06d}Z-7.jsonl"))
            if action == "look":
                seen += numbers(followed.new())
    assert sorted(seen) == list(range(20))


# --- what an event is ---------------------------------------------------------------------


def test_an_event_has_the_values_of_a_record(log: Path) -> None:
    append(log, line(1, request={"model": "m"}), end(1, response={"input_tokens": 35}))
    with LogTail(log) as tail:
        start, ended = tail.latest(2)
    assert isinstance(start, LoggedStart)
    assert (start.at, start.start.endpoint.name) == ("2026-01-02T03:04:01.500000Z", "chat")
    assert start.start.request.model == "m"
    assert isinstance(ended, LoggedEnd)
    assert (ended.record.outcome, ended.record.duration) == ("completed", 1.2)
    assert ended.record.response.input_tokens == 35
    assert ended.record.start.request.model == "m:latest"


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["model", "input_tokens", "tools", "total_bytes", "total"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=4,
)


@pytest.mark.slow
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("v", "id", "at", "operation", "method", "path", "model", "request", "response"),
                *("outcome", "ending", "duration", "error_type", "error_message", "status"),
                *("trace_id", "span_id", "tags", "progress", "residency", "chunks", "changes"),
            ]
        ),
        ODD,
    ),
    st.sampled_from(["request", "end"]),
)
def test_a_line_that_is_not_well_formed_does_not_end_the_tail(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any], event: str
) -> None:
    log = tmp_path_factory.mktemp("odd") / "calls.jsonl"
    append(log, line(1), line(2, event, **fields), line(3))
    with LogTail(log) as tail:
        events = tail.latest(3)
    assert [each.id for each in (events[0], events[-1])] == ["4f3a2b1c-1", "4f3a2b1c-3"]
    assert len(events) in {2, 3}


@pytest.mark.parametrize(
    "fields",
    [{"outcome": "lost"}, {"duration": "1"}, {"id": 7}, {"outcome": None}, {"response": 7}],
)
def test_an_end_that_does_not_fit_is_passed_over(log: Path, fields: dict[str, Any]) -> None:
    append(log, line(1), end(1, **fields), end(2))
    with LogTail(log) as tail:
        assert numbers(tail.latest(10)) == [1, 2]


def test_a_line_without_end_is_passed_over_in_bounded_memory(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel._log.tail.LONGEST_LINE", 100_000)
    append(log, line(1), b'{"v":2,"a":"' + b"x" * 10_000_000)
    with LogTail(log) as followed:
        tracemalloc.start()
        try:
            assert numbers(followed.latest(10)) == [1]
            assert followed.new() == []
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
        append(log, b'"}\n', line(2))
        assert numbers(followed.new()) == [2]


@pytest.mark.slow
def test_a_line_of_very_many_values_is_passed_over(log: Path) -> None:
    bomb = b'{"v":2,"event":"request","body":[' + b"[]," * 5_100_000 + b"1]}\n"
    append(log, line(1), bomb, line(2))
    with LogTail(log) as followed:
        tracemalloc.start()
        try:
            assert numbers(followed.latest(10)) == [1, 2]
            assert tracemalloc.get_traced_memory()[1] < 5 * len(bomb)
        finally:
            tracemalloc.stop()


# --- prompts --------------------------------------------------------------------------------


def digest_of(path: str = "/api/chat", changes: list[str] | None = None, **body: Any) -> str | None:
    raw = line(
        1, path=path, body={"model": "m", **body}, request={"model": "m"}, changes=changes or []
    )
    event = event_from(json.loads(raw))
    assert isinstance(event, LoggedStart)
    return event.prompt_digest


def test_equal_prompts_have_equal_digests() -> None:
    hello, other = [{"role": "user", "content": "Hello"}], [{"role": "user", "content": "Bye"}]
    digest = digest_of(messages=hello)
    assert digest is not None
    assert digest_of(messages=hello, options={"seed": 2}, stream=False) == digest
    assert digest_of(messages=other) not in {digest, None}
    assert digest_of(messages=hello, tools=[{"type": "function"}]) not in {digest, None}
    prompt = digest_of("/api/generate", prompt="Hello")
    assert prompt is not None
    assert digest_of("/api/generate", prompt="Hello", raw=True) not in {prompt, None}


def test_a_prompt_that_the_log_does_not_have_whole_has_no_digest() -> None:
    hello = [{"role": "user", "content": "Hello"}]
    assert digest_of(messages=hello, changes=["redacted"]) is None
    assert digest_of(messages=[{**hello[0], "images": [{"sha256": "ab", "size": 3}]}]) is None
    assert digest_of("/api/generate", prompt="Hello", suffix="end") is None
    assert digest_of("/api/embed", input="Hello") is None
    event = event_from(json.loads(line(1, request={"model": "m"})))
    assert isinstance(event, LoggedStart)
    assert event.prompt_digest is None
