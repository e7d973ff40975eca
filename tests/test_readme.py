"""What the README says is so: its code runs, its commands are CI's, its tables are whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_otel import Client
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeOllama

from .collector import collecting

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python" and "def test_" not in code]
TESTS = [code for language, code in BLOCKS if language == "python" and "def test_" in code]
SHELL = [
    line for language, code in BLOCKS if language == "sh" for line in code.splitlines() if line
]


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[0])
def test_every_python_block_runs(code: str, tmp_path: Path) -> None:
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {"OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if "configure(" in code and "Client()" in code:
            assert "chat llama3.2" in {name for _, name in sink.spans()}
            assert "gen_ai.client.operation.duration" in sink.metrics()


@pytest.mark.parametrize("code", TESTS, ids=lambda code: code.splitlines()[0])
def test_every_test_records_first_and_then_plays_without_a_server(
    code: str, tmp_path: Path
) -> None:
    (tmp_path / "test_block.py").write_text(code)

    def run(host: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_block.py"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "CI"}
            | {"OLLAMA_HOST": host},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    with FakeOllama().serve() as url:
        run(url)
    assert len(list((tmp_path / "cassettes").rglob("*.json"))) == 1
    assert "1 passed" in run("127.0.0.1:1")


def run_cli(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "ollama_otel._cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_commands_on_a_log_run(tmp_path: Path) -> None:
    """In the README's order; those that go on until they are stopped are stopped."""
    shown = [line for line in SHELL if "calls.jsonl" in line]
    assert [line.split()[1] for line in shown] == [
        *("show", "tail", "top", "serve-replay", "replay", "diff"),
        *("cost", "capacity", "advise", "report"),
    ]
    (example,) = (line for line in SHELL if line.endswith("> prices.toml"))
    with FakeOllama().serve() as url, ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
        question = [{"role": "user", "content": "Why is the sky blue?"}]
        with Client(url, observers=[log]) as client:
            list(client.chat("llama3.2", messages=question, stream=True))
        log.flush()
        prices = run_cli(example.split()[1:3])
        (tmp_path / "prices.toml").write_text(
            prices.replace("localhost:11434", url.removeprefix("http://"))
        )
        for line in shown:
            command = line.replace("http://127.0.0.1:11434", url).replace(":11500", ":0").split()
            # There is no terminal here.
            command += ["--json"] if command[1] == "top" else []
            runs_on = command[1] in {"tail", "serve-replay"}
            with subprocess.Popen(
                [sys.executable, "-m", "ollama_otel._cli", *command[1:]],
                cwd=tmp_path,
                env=os.environ | {"OTEL_SDK_DISABLED": "true", "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as running:
                assert running.stdout is not None
                first = running.stdout.readline()
                if runs_on:
                    running.send_signal(signal.SIGINT)
                rest = running.stdout.read()
            assert first, line
            # The texts of the fake are the same each time, its timings nearly so.
            assert running.returncode in ({0, 130} if runs_on else {0}), (line, first + rest)


def test_the_demo_looks_as_shown() -> None:
    """Numbers and bars aside, which are other ones every time."""
    done = subprocess.run(
        [sys.executable, "-m", "ollama_otel._cli", "demo", "--no-color"],
        env=os.environ | {"OLLAMA_HOST": "127.0.0.1:1", "COLUMNS": "88", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )

    def skeleton(text: str) -> list[str]:
        plain = re.sub(r"[\d.]+ (ms|s)\b", "# s", text)
        return [re.sub(r"[\d.█ ]+", " ", line).strip() for line in plain.splitlines() if line]

    [shown] = [code for language, code in BLOCKS if language == "text"]
    expected, printed = skeleton(shown), skeleton(done.stdout)
    assert printed[: len(expected)] == expected


def test_every_block_has_a_language_that_is_run_or_shown() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text"}


def test_the_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    demo = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 ollama-otel demo"
    # Containers need an engine; the others run in the tests of their commands.
    dashboards = {line for line in SHELL if line.startswith("ollama-otel dashboards ")}
    # In test_first_call.py, and with the default protocol in real/test_zero_code.py.
    zero_code = {
        line for line in SHELL if "zero-code" in line or "opentelemetry-instrument" in line
    }
    on_a_log = {line for line in SHELL if "calls.jsonl" in line or "prices.toml" in line}
    others = {demo, *dashboards, *zero_code, *on_a_log}
    assert [command for command in SHELL if command not in others] == [
        "python -m pip install . && ollama-otel demo",
        "python -m pip install 'pip>=25.1' && python -m pip install --editable '.[all]' --group dev && python -m pytest",
    ]
    assert all(command in ci for command in SHELL if command not in others)
    assert (ROOT / "dashboards" / "compose.yaml").exists()
