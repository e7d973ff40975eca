"""The command `tail`: how an event looks, and how a log is followed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ollama_otel import Client
from ollama_otel._cli import main
from ollama_otel._cli.event_line import event_line
from ollama_otel._cli.tail import follow
from ollama_otel._log.cassette import write_cassette
from ollama_otel._log.format import event_from
from ollama_otel._log.tail import LogTail
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeOllama
from tests.log.event_lines import append, end, line


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


# --- how it looks -------------------------------------------------------------------------


def text_of(raw: bytes, *, ascii_only: bool = False) -> str:
    event = event_from(json.loads(raw))
    assert event is not None
    return event_line(event, ascii_only=ascii_only).plain


def test_an_event_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    begins = text_of(line(1, request={"model": "m:latest"}))
    assert begins == "03:04:01.500  4f3a2b1c-1   → begins     chat m"
    tokens = {"input_tokens": 35, "output_tokens": 12}
    ends = text_of(end(1, response=tokens))
    assert ends == "03:04:01.500  4f3a2b1c-1   ← completed  chat m  1.20 s  35 in  12 out"
    cold = text_of(end(1, residency={"reload_cause": "evicted", "evicted_by": "qwen3:\n8b"}))
    assert cold.endswith("  chat m  1.20 s  cold: evicted by qwen3: 8b")
    failed = end(1, "failed", error_type="server_error", error_message="it\n\x1b[31mbroke")
    assert text_of(failed, ascii_only=True) == (
        r"03:04:01.500  4f3a2b1c-1   < failed     chat m  1.20 s  server_error: it \x1b[31mbroke"
    )


def test_the_outcome_has_its_colour() -> None:
    for outcome, colour in (("completed", "32"), ("abandoned", "33"), ("failed", "31")):
        file = io.StringIO()
        event = event_from(json.loads(end(1, outcome)))
        assert event is not None
        shown = event_line(event, ascii_only=False)
        Console(file=file, force_terminal=True, color_system="standard").print(shown)
        assert f"\x1b[{colour}m{outcome.ljust(9)}" in file.getvalue()


@given(
    st.text(),
    st.text(),
    st.fixed_dictionaries({}, optional={"model": st.text(), "operation": st.text()}),
    st.fixed_dictionaries({}, optional={"error_type": st.text(), "error_message": st.text()}),
)
def test_no_event_is_too_odd_to_be_shown(
    call_id: str, at: str, known: dict[str, str], error: dict[str, str]
) -> None:
    odd = text_of(end(1, id=call_id, at=at, **known, **error))
    begins = text_of(line(1, id=call_id, operation=known.get("operation", ""), request=known))
    for shown in (odd, begins):
        assert "\n" not in shown
        assert "\x1b" not in shown


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
    folder = log.with_name("cassettes")
    write_cassette(folder / "test_shop" / "test_a.json", [])
    for path, found in (
        (log.with_name("calls.jsonl.gz"), "a compressed one"),
        (cassette, "a cassette"),
        (folder, "a folder of cassettes"),
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
    with LogTail(log) as followed, pytest.raises(EndedError):
        follow(followed, Console(file=file), lines=10, sleep=sleeping(*steps))
    assert printed == [1, 2]
    assert capsys.readouterr().err == f"Waiting for {log} to be created.\n"


@pytest.mark.sockets
@pytest.mark.processes
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
