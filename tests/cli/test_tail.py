"""The command `tail`: events as they come, through rotation, torn lines and files that are not there yet."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ollama_otel import Client
from ollama_otel._cli import main
from ollama_otel._cli.event_line import event_line
from ollama_otel._cli.following import FollowedLog
from ollama_otel._cli.tail import follow
from ollama_otel._log.cassette import write_cassette
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeOllama


def line(number: int, event: str = "request", **fields: Any) -> bytes:
    values = {
        "v": 1,
        "event": event,
        "id": f"4f3a2b1c-{number}",
        "at": f"2026-01-02T03:04:{number:02d}.500000Z",
        "operation": "chat",
        **fields,
    }
    return json.dumps(values).encode() + b"\n"


def end(number: int, outcome: str = "completed", **fields: Any) -> bytes:
    return line(number, "end", model="m:latest", outcome=outcome, duration=1.2, **fields)


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


def numbers(events: Any) -> list[int]:
    return [int(event["id"].partition("-")[2]) for event in events]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


# --- what is new --------------------------------------------------------------------------


def test_the_last_events_come_first_and_then_only_new_ones(log: Path) -> None:
    append(log, *map(line, range(20)))
    with FollowedLog(log) as followed:
        assert numbers(followed.latest(3)) == [17, 18, 19]
        assert followed.new() == []
        append(log, line(20))
        assert numbers(followed.new()) == [20]


def test_no_events_first_means_none(log: Path) -> None:
    append(log, line(1))
    with FollowedLog(log) as followed:
        assert followed.latest(0) == []
        append(log, line(2))
        assert numbers(followed.new()) == [2]


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    whole = line(2)
    append(log, line(1), whole[:20])
    with FollowedLog(log) as followed:
        assert numbers(followed.latest(10)) == [1]
        assert followed.new() == []
        append(log, whole[20:-1])
        assert followed.new() == []
        append(log, whole[-1:])
        assert numbers(followed.new()) == [2]


def test_a_rotated_file_is_read_to_its_end_and_not_again(log: Path) -> None:
    append(log, line(1))
    with FollowedLog(log) as followed:
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
    with FollowedLog(log) as followed:
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
    with FollowedLog(log) as followed:
        followed.latest(10)
        log.write_bytes(line(3))
        assert numbers(followed.new()) == [3]


def test_the_files_of_all_processes_are_followed_by_time(log: Path) -> None:
    append(log, line(1), line(4))
    append(log.with_name("calls.pid123.jsonl"), line(2), line(3))
    append(log.with_name("calls2.jsonl"), line(9))
    append(log.with_name("notes.jsonl"), line(9))
    with FollowedLog(log) as followed:
        assert numbers(followed.latest(3)) == [2, 3, 4]
        append(log.with_name("calls.pid456.jsonl"), line(6))
        append(log, line(5), line(7))
        assert numbers(followed.new()) == [5, 6, 7]


def test_a_folder_stands_for_all_logs_in_it(log: Path) -> None:
    append(log, line(1))
    append(log.with_name("other.jsonl"), line(2))
    append(log.with_name("other.txt"), line(3))
    with FollowedLog(log.parent) as followed:
        assert numbers(followed.latest(10)) == [1, 2]


def test_a_log_without_a_suffix_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "mylog"
    append(log, line(1))
    append(tmp_path / "mylog.pid7", line(2))
    append(tmp_path / "mylog.notes", line(9))
    with FollowedLog(log) as followed:
        assert numbers(followed.latest(10)) == [1, 2]
        append(log, line(3))
        assert numbers(followed.new()) == [3]


def test_archived_files_are_not_read(log: Path) -> None:
    append(log, line(2))
    archived = log.with_name("calls.20260102T030405000006Z-7.jsonl.gz")
    archived.write_bytes(gzip.compress(line(1)))
    with FollowedLog(log) as followed:
        assert followed.files() == [log]


def test_bodies_are_not_kept(log: Path) -> None:
    size = 1_000_000
    append(log, *(end(number, chunks=[[0.1, "x" * size]], body="y" * size) for number in range(9)))
    with FollowedLog(log) as followed:
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
    with FollowedLog(log) as followed:
        assert followed.latest(10) == []
        assert followed.new() == []
        log.parent.mkdir()
        append(log, line(1))
        assert numbers(followed.new()) == [1]


def test_unknown_events_and_torn_lines_are_passed_over(log: Path) -> None:
    append(log, line(1, "opened"), b'{"v":1,"event":"req\n', b"[1]\n\xff\n\n", line(2))
    with FollowedLog(log) as followed:
        assert numbers(followed.latest(1)) == [2]
        append(log, line(3, "new kind"), line(4), b"\n", line(5))
        assert numbers(followed.new()) == [4, 5]


@pytest.mark.parametrize("size", [10, 70_000, 200_000])
def test_the_end_of_a_long_file_is_found_without_its_beginning(log: Path, size: int) -> None:
    padding = "x" * size
    append(log, *(line(number, padding=padding) for number in range(12)))
    with FollowedLog(log) as followed:
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
    with FollowedLog(log) as followed:
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


# --- how it looks -------------------------------------------------------------------------


def text_of(raw: bytes, *, ascii_only: bool = False) -> str | None:
    shown = event_line(json.loads(raw), ascii_only=ascii_only)
    return None if shown is None else shown.plain


def test_an_event_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    begins = text_of(line(1, request={"model": "m:latest"}))
    assert begins == "03:04:01.500  4f3a2b1c-1   → begins     chat m"
    tokens = {"input_tokens": 35, "output_tokens": 12}
    ends = text_of(end(1, response=tokens))
    assert ends == "03:04:01.500  4f3a2b1c-1   ← completed  chat m  1.20 s  35 in  12 out"
    failed = end(1, "failed", error_type="server_error", error_message="it\n\x1b[31mbroke")
    assert text_of(failed, ascii_only=True) == (
        "03:04:01.500  4f3a2b1c-1   < failed     chat m  1.20 s  server_error: it \N{REPLACEMENT CHARACTER}[31mbroke"
    )
    assert text_of(line(1, "opened")) is None


def test_the_outcome_has_its_colour() -> None:
    for outcome, colour in (("completed", "32"), ("abandoned", "33"), ("failed", "31")):
        file = io.StringIO()
        shown = event_line(json.loads(end(1, outcome)), ascii_only=False)
        Console(file=file, force_terminal=True, color_system="standard").print(shown)
        assert f"\x1b[{colour}m{outcome.ljust(9)}" in file.getvalue()


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("id", "at", "operation", "model", "request", "response", "outcome"),
                *("duration", "error_type", "error_message"),
            ]
        ),
        st.one_of(
            st.none(),
            st.text(),
            st.integers(),
            st.booleans(),
            st.dictionaries(st.sampled_from(["model", "input_tokens"]), st.text() | st.integers()),
        ),
    ),
    st.sampled_from(["request", "end"]),
)
def test_no_event_is_too_odd_to_be_shown(fields: dict[str, Any], event: str) -> None:
    shown = event_line({**fields, "event": event}, ascii_only=False)
    assert shown is not None
    assert "\n" not in shown.plain


# --- the command --------------------------------------------------------------------------


def test_once_prints_what_there_is_and_ends(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(log, *map(line, range(20)))
    assert main(["tail", str(log), "--once"]) == 0
    assert [row.split()[1] for row in capsys.readouterr().out.splitlines()] == [
        f"4f3a2b1c-{number}" for number in range(10, 20)
    ]
    assert main(["tail", str(log), "--once", "--lines", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_once_without_a_log_is_an_error(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", str(log), "--once"]) == 2
    assert capsys.readouterr().err == f"ollama-otel: expected a replay log at {log}, found none\n"


def test_what_nobody_writes_to_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cassette = log.with_name("chat.json")
    write_cassette(cassette, [])
    for path, found in (
        (log.with_name("calls.jsonl.gz"), "a compressed one"),
        (cassette, "a cassette"),
    ):
        assert main(["tail", str(path)]) == 2
        assert capsys.readouterr().err == (
            f"ollama-otel: expected a log that is being written, found {found}: "
            f"use ollama-otel show {path}\n"
        )


def test_a_bad_number_of_lines_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tail", str(log), "--lines", "x"])
    assert "expected a whole number of at least 0, found 'x'" in capsys.readouterr().err


class EndedError(Exception):
    """Raised by the last sleep of a test."""


def sleeping(*steps: Callable[[], object]) -> Callable[[float], None]:
    """A sleep during which something happens, and which ends with the last step."""
    waiting = iter(steps)

    def sleep(seconds: float) -> None:
        assert seconds == 0.2
        step = next(waiting, None)
        if step is None:
            raise EndedError
        step()

    return sleep


def test_following_goes_on_between_looks(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    printed: list[int] = []
    steps = (
        lambda: append(log, line(1)),
        lambda: printed.append(file.getvalue().count("\n")),
        lambda: append(log, end(1)),
        lambda: printed.append(file.getvalue().count("\n")),
    )
    with FollowedLog(log) as followed, pytest.raises(EndedError):
        follow(followed, Console(file=file), lines=10, sleep=sleeping(*steps))
    assert printed == [1, 2]
    assert capsys.readouterr().err == f"Waiting for {log} to be created.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_a_live_log_is_followed_as_a_process(log: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ollama_otel._cli", "tail", str(log)],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    giving_up = threading.Timer(60, process.kill)
    giving_up.start()
    try:
        assert "Waiting for" in process.stderr.readline()
        rows: list[str] = []
        with (
            ReplayLog(log, max_size=1500) as observer,
            FakeOllama().serve() as url,
            Client(url, observers=[observer]) as client,
        ):
            for _ in range(4):
                client.chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
                observer.flush()
                rows += [process.stdout.readline() for _ in range(2)]
        assert list(log.parent.glob("*.gz")), "it has been rotated"
    finally:
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
        giving_up.cancel()
    assert (process.returncode, complaints) == (130, "")
    assert [row.split()[3] for row in rows] == ["begins", "completed"] * 4
