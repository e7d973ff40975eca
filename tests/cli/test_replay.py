"""The command `replay`: what it prints, its exit statuses, and how it is interrupted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel.replay import plan_rerun, read
from ollama_otel.replay._diff.pairing import REPLAY_OF, is_settled
from ollama_otel.testing import FakeOllama, Fault
from tests.replay.call_lines import ask, lines, write

pytestmark = pytest.mark.sockets

Print = pytest.CaptureFixture[str]
COMMAND = (sys.executable, "-c", "import sys; from ollama_otel._cli import main; sys.exit(main())")


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama()


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    with fake.serve() as url:
        yield url


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Five chats within a second, and a call that is no inference."""
    chats = [
        lines(str(number), ask(str(number), model="llama3.2"), at=number / 4) for number in range(5)
    ]
    return write(tmp_path / "calls.jsonl", *chats, lines("x", {"model": "m"}, path="/api/pull"))


def asked(fake: FakeOllama) -> list[str]:
    return [received.path for received in fake.requests]


@pytest.mark.slow
def test_the_answers_stand_next_to_the_log(
    log: Path, url: str, fake: FakeOllama, capsys: Print
) -> None:
    out = log.with_name("calls.replayed.jsonl")
    assert main(["replay", str(log), "--host", url, "--speed", "10"]) == 0
    assert asked(fake) == ["/api/version", *["/api/chat"] * 5]
    assert len(list(read(out))) == 5
    text = capsys.readouterr().out
    assert text.splitlines() == [
        "Left out 1 call: only inference is sent.",
        f"Sending 5 calls to {url}, over 0.10 s.",
        "5 calls ended, 0 failed.",
        "Compare the logs:",
        f"  ollama-otel diff {log} {out}",
    ]
    assert main(["diff", str(log), str(out)]) == 1


@pytest.mark.slow
def test_the_same_command_sends_nothing_twice(
    log: Path, url: str, fake: FakeOllama, capsys: Print
) -> None:
    command = ["replay", str(log), "--host", url, "--concurrency", "2"]
    assert main([*command, "--limit", "2"]) == 0
    assert main(command) == 0
    assert "Already answered: 2 calls." in capsys.readouterr().out
    assert main(command) == 0
    assert asked(fake).count("/api/chat") == 5
    assert "Nothing is left to send." in capsys.readouterr().out


@pytest.mark.slow
def test_file_and_model_can_be_chosen(
    log: Path, url: str, fake: FakeOllama, tmp_path: Path
) -> None:
    out = tmp_path / "other.jsonl"
    options = ["--host", url, "--model", "qwen3", "--out", str(out), "--concurrency", "5"]
    assert main(["replay", str(log), *options]) == 0
    assert {received.json()["model"] for received in fake.requests[1:]} == {"qwen3"}
    assert {call.start.request.model for call in read(out)} == {"qwen3"}


@pytest.mark.slow
def test_the_host_of_the_environment_is_the_default(
    log: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", url)
    assert main(["replay", str(log), "--concurrency", "5"]) == 0


@pytest.mark.slow
def test_redacted_requests_are_left_out_unless_asked_for(
    url: str, fake: FakeOllama, tmp_path: Path, capsys: Print
) -> None:
    log = write(tmp_path / "a.jsonl", lines("1", ask(model="llama3.2"), changes=["redacted"]))
    assert main(["replay", str(log), "--host", url]) == 0
    text = capsys.readouterr().out
    assert "Left out 1 call with redacted text; `--redacted` sends it anyway." in text
    assert "Nothing is left to send." in text
    assert fake.requests == []
    assert main(["replay", str(log), "--host", url, "--redacted"]) == 0
    assert asked(fake) == ["/api/version", "/api/chat"]


def test_a_log_without_bodies_is_an_error(tmp_path: Path, capsys: Print) -> None:
    log = write(tmp_path / "facts.jsonl", lines("1", bodies=False), lines("2", bodies=False))
    assert main(["replay", str(log)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"ollama-otel: no call of {log} can be sent (2 without a body): record with "
        "replay_bodies=True\n"
    )


@pytest.mark.slow
def test_names_are_printed_as_they_are(log: Path, url: str, capsys: Print) -> None:
    odd = log.rename(log.with_name("[bold][red]x.jsonl"))
    assert main(["replay", str(odd), "--host", url, "--concurrency", "5"]) == 0
    assert "[bold][red]x.replayed.jsonl" in capsys.readouterr().out


def test_a_server_that_does_not_answer_gives_status_2(log: Path, capsys: Print) -> None:
    with socket.socket() as listener:
        # Bound, but not listening.
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["replay", str(log), "--host", url]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ollama-otel: expected an Ollama server at {url}, found none")
    assert not log.with_name("calls.replayed.jsonl").exists()


@pytest.mark.slow
def test_calls_that_reach_no_server_give_status_1(log: Path, capsys: Print) -> None:
    with leaving() as url:
        assert main(["replay", str(log), "--host", url, "--concurrency", "5"]) == 1
    text = capsys.readouterr().out
    assert "5 calls ended, 5 failed: 5 connect." in text
    assert "5 calls reached no server; the same command sends them again." in text


@contextmanager
def leaving() -> Iterator[str]:
    """A server that answers one request and is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                listener.close()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
                )

        thread = threading.Thread(target=answer)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.start()
        yield url
        thread.join()


@pytest.mark.slow
def test_failures_are_counted(log: Path, url: str, fake: FakeOllama, capsys: Print) -> None:
    fake.fault("/api/chat", Fault(cut_at=3), times=2)
    assert main(["replay", str(log), "--host", url, "--concurrency", "1"]) == 0
    assert "5 calls ended, 2 failed: 2 incomplete." in capsys.readouterr().out


@pytest.mark.slow
def test_if_every_call_fails_the_status_is_1_and_the_reason_is_said(
    log: Path, url: str, fake: FakeOllama, capsys: Print
) -> None:
    fake.fault("/api/chat", Fault(cut_at=3), times=5)
    assert main(["replay", str(log), "--host", url, "--concurrency", "1"]) == 1
    assert "5 calls ended, 5 failed: 5 incomplete." in capsys.readouterr().out


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A log of a chat and of embeddings, of models that the server does not have."""
    return write(
        tmp_path / "mixed.jsonl",
        lines("1", ask("1", model="old")),
        lines("2", ask("2", model="older")),
        lines("3", {"model": "embedder", "input": "x"}, path="/api/embed", at=1.0),
    )


@pytest.mark.slow
def test_models_are_replaced_one_by_one(
    mixed: Path, url: str, fake: FakeOllama, capsys: Print
) -> None:
    options = ["--model", "qwen3", "--model", "OLD:latest=llama3.2", "--speed", "100"]
    assert main(["replay", str(mixed), "--host", url, *options]) == 0
    sent = {(each.path, each.json()["model"]) for each in fake.requests if each.body}
    assert sent == {
        *(("/api/show", "qwen3"), ("/api/show", "llama3.2")),
        *(("/api/chat", "qwen3"), ("/api/chat", "llama3.2")),
    }
    text = capsys.readouterr().out
    assert "Not sent 1 call that the new model does not support, such as embeddings" in text
    assert "2 calls ended, 0 failed." in text


@pytest.mark.slow
def test_a_model_that_is_not_there_is_an_error_before_anything_is_sent(
    mixed: Path, url: str, fake: FakeOllama, capsys: Print
) -> None:
    assert main(["replay", str(mixed), "--host", url, "--model", "qwen33"]) == 2
    printed = capsys.readouterr()
    assert "found 'qwen33'; did you mean qwen3?" in printed.err
    assert "Sending" not in printed.out
    assert asked(fake) == ["/api/version", "/api/show", "/api/tags"]
    assert main(["replay", str(mixed), "--host", url, "--model", "oldd=qwen3"]) == 2
    assert (
        "expected a model of the log to replace, found 'oldd'; did you mean old, older?"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "old="],
        ["--model", "=new"],
        ["--model", ""],
        ["--limit", "0"],
        ["--limit", "x"],
        ["--concurrency", "0"],
        ["--speed", "0"],
        ["--speed", "nan"],
        ["--speed", "x"],
        ["--speed", "2", "--concurrency", "2"],
        ["--host", "h:port"],
    ],
)
def test_wrong_arguments_end_in_argparse(options: list[str], log: Path, capsys: Print) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", str(log), *options])
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_log_that_is_not_there_is_an_error(tmp_path: Path, capsys: Print) -> None:
    assert main(["replay", str(tmp_path / "no.jsonl")]) == 2
    assert capsys.readouterr().err.startswith("ollama-otel: expected a replay log")


@pytest.mark.slow
def test_on_a_terminal_there_is_a_bar(
    log: Path, url: str, capsys: Print, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["replay", str(log), "--host", url, "--speed", "2"]) == 0
    text = capsys.readouterr().out
    assert "/5" in text
    assert "0 failed" in text
    assert "calls/s" in text


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupted_run_goes_on_where_it_was(
    log: Path, url: str, fake: FakeOllama, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    # The third answer never ends.
    fake.fault("/api/chat", Fault())
    fake.fault("/api/chat", Fault())
    fake.fault("/api/chat", Fault(stall_at=10))
    process = subprocess.Popen(
        [*COMMAND, "replay", str(log), "--host", url, "--concurrency", "1", "--out", str(out)],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while asked(fake).count("/api/chat") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (130, "")
    assert "Interrupted: 2 of 5 ended; the same command sends the rest." in said
    assert [call.id for call in plan_rerun(read(log), out=out).calls] == ["2", "3", "4"]
    assert main(["replay", str(log), "--host", url, "--out", str(out), "--concurrency", "1"]) == 0
    settled = [call.start.context.tags[REPLAY_OF] for call in read(out) if is_settled(call)]
    assert sorted(settled) == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupt_gives_status_130(
    log: Path, url: str, fake: FakeOllama, capsys: Print
) -> None:
    fake.fault("/api/chat", Fault(stall_at=0), times=5)

    def interrupt() -> None:
        while asked(fake).count("/api/chat") < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(["replay", str(log), "--host", url, "--concurrency", "3"]) == 130
    thread.join()
    assert "Interrupted: 0 of 5 ended" in capsys.readouterr().out
