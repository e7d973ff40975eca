"""The command line as a process: its exit statuses, what it says, and where."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel._cli.commands import COMMANDS, Command, parser
from tests.replay.call_lines import lines, write

COMMAND = (sys.executable, "-c", "import sys; from ollama_otel._cli import main; sys.exit(main())")


def environment(**settings: str) -> dict[str, str]:
    """The environment without a proxy and with settings of the test's own only."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "OTEL_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }
    return {**inherited, "PYTHONIOENCODING": "utf-8", **settings}


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        env=environment(**settings),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.processes
def test_the_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ollama-otel {version('ollama_otel')}\n")


@pytest.mark.processes
def test_the_version_and_help_need_no_good_settings() -> None:
    assert run("--version", OLLAMA_HOST="::1").returncode == 0
    assert "demo" in run("--help", OLLAMA_HOST="::1").stdout


@pytest.mark.processes
def test_no_command_is_an_error() -> None:
    done = run()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize("host", ["127.0.0.1:port", "[::1", "ftp://h", '"127.0.0.1:11434"'])
def test_a_bad_ollama_host_is_told_in_one_sentence(host: str) -> None:
    done = run("demo", OLLAMA_HOST=host)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ollama-otel: OLLAMA_HOST: expected the address of an Ollama server")
    assert repr(host) in line


@pytest.mark.processes
def test_a_bad_host_argument_is_told_in_one_sentence() -> None:
    done = run("demo", "--host", "h:port")
    assert (done.returncode, done.stdout) == (2, "")
    assert "argument --host: expected the address of an Ollama server" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"OLLAMA_OTEL_MAX_MODELS": "x"},
            "OLLAMA_OTEL_MAX_MODELS must be a whole number of at least 1, not 'x'",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
            },
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc, not 'carrier-pigeon'",
        ),
        (
            {"OTEL_SDK_DISABLED": "true"},
            "the demo has nothing to show with OTEL_SDK_DISABLED=true: unset it",
        ),
    ],
)
def test_wrong_settings_are_told_in_one_sentence(settings: dict[str, str], sentence: str) -> None:
    done = run("demo", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"ollama-otel: {sentence}\n")


@pytest.mark.sockets
@pytest.mark.processes
def test_the_demo_works_with_no_ollama_no_collector_and_no_terminal(nowhere: str) -> None:
    done = run("demo", OLLAMA_HOST=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert f"No Ollama answered at http://{nowhere}; using a scripted server" in " ".join(
        text.split()
    )
    assert "\x1b" not in text
    for part in (
        "load",
        "queue, estimated",
        "prompt",
        "decode",
        "client",
        "completed",
        "abandoned",
        "failed",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.sockets
@pytest.mark.processes
def test_the_host_argument_wins_over_the_environment(nowhere: str) -> None:
    done = run("demo", "--host", nowhere, OLLAMA_HOST="127.0.0.1:9")
    assert f"No Ollama answered at http://{nowhere}" in done.stdout


@pytest.mark.sockets
@pytest.mark.processes
def test_a_proxy_of_the_environment_does_not_hide_the_scripted_server(nowhere: str) -> None:
    done = run("demo", OLLAMA_HOST=nowhere, http_proxy=f"http://{nowhere}")
    assert done.returncode == 0
    assert done.stdout.count("completed") >= 4


@pytest.mark.sockets
@pytest.mark.processes
def test_old_code_pages_get_plain_characters(nowhere: str) -> None:
    done = run("demo", OLLAMA_HOST=nowhere, PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, "")
    assert "+-- load" in done.stdout


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupt_ends_it_quietly(nowhere: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        env=environment(OLLAMA_HOST=nowhere, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (130, "")


HEAVY = ("httpx", "ollama", "opentelemetry", "rich")


def imported_by(*arguments: str, **settings: str) -> list[str]:
    """Which of the `HEAVY` packages a successful command imports."""
    code = (
        "import sys; from ollama_otel._cli import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as ended: status = ended.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], status, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        env=environment(**settings),
        capture_output=True,
        encoding="utf-8",
    )
    packages, _, status = done.stderr.strip().rpartition(" ")
    assert status == "0", done.stderr
    assert done.stdout
    return re.findall(r"\w+", packages)


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["dashboards", "--help"]])
def test_help_and_version_import_no_command(arguments: list[str]) -> None:
    assert imported_by(*arguments) == []


@pytest.mark.processes
def test_the_help_of_the_demo_needs_no_good_ollama_host() -> None:
    done = run("demo", "--help", OLLAMA_HOST="::1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.processes
@pytest.mark.parametrize("command", ["show LOG", "show LOG 1", "tail LOG --once", "diff LOG LOG"])
def test_a_command_on_files_needs_no_client(command: str, tmp_path: Path) -> None:
    log = write(tmp_path / "a.jsonl", lines("1"))
    settings = {"ALL_PROXY": "socks://nowhere", "OLLAMA_HOST": "::1"}
    assert imported_by(*command.replace("LOG", str(log)).split(), **settings) == ["rich"]


@pytest.mark.processes
def test_a_parser_gets_the_arguments_of_a_command_once() -> None:
    made = parser()
    for _ in range(2):
        assert callable(made.parse_args(["dashboards", "down"]).run)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_has_its_help(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: ollama-otel {command.name} ")


WRITING = {
    "replay": ["replay", "LOG", "--out", "FILE"],
    "advise": ["advise", "LOG", "--try-model", "m", "--out", "FILE"],
    "report": ["report", "LOG", "-o", "FILE"],
}


@pytest.mark.parametrize("arguments", WRITING.values(), ids=WRITING)
def test_a_file_in_no_folder_is_refused_before_anything_is_done(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("duckdb")
    log, file = write(tmp_path / "a.jsonl", lines("1")), tmp_path / "none" / "x"
    words = {"LOG": str(log), "FILE": str(file)}
    with pytest.raises(SystemExit) as ended:
        main([words.get(word, word) for word in arguments])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert f"expected a file in an existing folder, found '{file}'" in printed.err


READING = {
    "a list as JSON": ["show", "LOG", "--json"],
    "a table": ["show", "LOG"],
    "a call": ["show", "LOG", "1"],
    "a body": ["show", "LOG", "1", "--body"],
    "a comparison as JSON": ["diff", "LOG", "LOG", "--json"],
    "a comparison": ["diff", "LOG", "LOG"],
    "events": ["tail", "LOG", "--once"],
}


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
@pytest.mark.parametrize("arguments", READING.values(), ids=READING)
def test_whoever_reads_no_further_ends_it_quietly(arguments: list[str], tmp_path: Path) -> None:
    log = write(tmp_path / "a.jsonl", *(lines(str(number)) for number in range(3)))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [*COMMAND, *(str(log) if word == "LOG" else word for word in arguments)],
            check=False,
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (141, "")


def on_a_terminal(*arguments: str, **settings: str) -> str:
    """What a command writes to a terminal, as output and as errors."""
    master, terminal = os.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env={**environment(TERM="xterm-256color"), **settings},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        written = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(master, 65_536):
                written += data
        os.close(master)
    assert process.returncode == 0, written
    return written.decode()


STYLED = {
    "a table": ["show", "LOG"],
    "a call": ["show", "LOG", "1"],
    "events": ["tail", "LOG", "--once"],
    "a comparison": ["diff", "LOG", "LOG"],
    "a report": ["report", "LOG", "--quick", "-o", "PAGE"],
    "the demo": ["demo", "--host", "127.0.0.1:9"],
}


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize("arguments", STYLED.values(), ids=STYLED)
def test_plain_text_has_no_escape_codes_at_all(arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    log = write(tmp_path / "a.jsonl", *(lines(str(number)) for number in range(3)))
    files = {"LOG": str(log), "PAGE": str(tmp_path / "page.html")}
    words = [files.get(word, word) for word in arguments]
    assert "\x1b[" in on_a_terminal(*words)
    assert "\x1b" not in on_a_terminal(*words, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(*words, "--no-color")


def test_commands_are_listed_by_how_often_they_are_needed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert listed == [
        "show",
        "tail",
        "top",
        "report",
        "advise",
        "cost",
        "capacity",
        "load",
        "diff",
        "replay",
        "serve-replay",
        "demo",
        "dashboards",
        "completion",
        "help",
    ]


@pytest.mark.parametrize("command", [[], ["show"], ["dashboards", "up"]], ids=" ".join)
def test_help_is_that_of_the_option(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for arguments in (["help", *command], [*command, "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_help_of_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["help", "nonsense"])
    assert ended.value.code == 2
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


@pytest.mark.processes
def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ollama_otel", "--help"],
        check=False,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ollama-otel ")


# --- the same without a process, which is faster and seen by coverage -----------------------------


def test_a_bad_ollama_host_gives_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "[::1")
    assert main(["demo"]) == 2
    assert capsys.readouterr().err.startswith("ollama-otel: OLLAMA_HOST: expected")


def test_a_bad_host_argument_ends_in_argparse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--host", "h:port"])
    assert ended.value.code == 2
    assert "argument --host: expected" in capsys.readouterr().err


def test_a_disabled_sdk_gives_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert main(["demo"]) == 2


def test_an_interrupt_gives_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ollama_otel._cli.demo_run.start", interrupt)
    assert main(["demo"]) == 130


def test_a_file_without_permission_is_an_error_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text("")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(log))

    monkeypatch.setattr(Path, "open", refuse)
    for command in ("show", "tail"):
        assert main([command, str(log)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("ollama-otel: ")
        assert "Permission denied" in err
        assert str(log) in err


def test_values_that_are_nested_too_deeply_are_an_error_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn")
    line = {
        "v": 2,
        "event": "request",
        "id": "1",
        "at": "2026-01-01T00:00:00Z",
        "operation": "chat",
        "method": "POST",
        "path": "/api/chat",
    }
    log = tmp_path / "a.jsonl"
    deep = "[" * 900 + "]" * 900
    log.write_text(f'{json.dumps(line)[:-1]}, "body": {{"options": {deep}}}}}\n')
    assert main(["serve-replay", str(log), "--listen", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err.startswith("ollama-otel: ")
