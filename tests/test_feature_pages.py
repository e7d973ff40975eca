"""The pages about one feature each do what they say: their code and their commands run."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ollama_otel import Client
from ollama_otel.pytest_plugin import _Options
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeOllama
from tests.documents import blocks_of, run_block, text_of

from .collector import collecting

PAGES = (
    "context.md",
    "observers.md",
    "privacy.md",
    "replay.md",
    "residency.md",
    "testing.md",
    "../dashboards/README.md",
)
ON_LOGS = {
    "replay.md": ("show", "tail", "top", "serve-replay", "replay", "diff"),
    "analysis.md": ("cost", "capacity", "advise", "report"),
}
"""Pages, and their commands on a log."""
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


def write_log(folder: Path, url: str) -> None:
    with ReplayLog(folder / "calls.jsonl", bodies=True) as log, Client(url, observers=[log]) as it:
        list(it.chat("llama3.2", messages=QUESTION, stream=True))


# --- Python -------------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize(
    ("page", "code"),
    [(page, code) for page in PAGES for code in blocks_of(page) if "def test_" not in code],
)
def test_every_block_runs(page: str, code: str, tmp_path: Path) -> None:
    code = code.replace('"127.0.0.1:9464"', '"127.0.0.1:0"')
    with FakeOllama().serve() as url, collecting() as sink:
        if "with replay(" in code:
            write_log(tmp_path, url)
        environment = {"OLLAMA_HOST": url}
        if "configure(" in code:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.url
        done = run_block(code, tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        if "log_calls" in code:
            assert "ollama call completed" in done.stderr
        else:
            assert done.stderr == ""
        if "configure(" in code and "Client()" in code:
            assert "chat llama3.2" in {name for _, name in sink.spans()}


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", [code for code in blocks_of("testing.md") if "def test_" in code])
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


def test_the_arguments_of_the_marker_are_listed() -> None:
    table = text_of("testing.md").partition("| Argument of the marker |")[2].partition("\n\n")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", table, re.MULTILINE))
    defaults = {field.name: field.default for field in fields(_Options)}
    assert listed.pop("path").startswith("cassettes/")
    assert defaults.pop("path") is None
    assert listed == {
        name: f"{value:g}" if isinstance(value, float) else repr(value)
        for name, value in defaults.items()
    }


# --- commands -----------------------------------------------------------------------------


def run_cli(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "ollama_otel._cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("page", ON_LOGS)
def test_the_commands_on_a_log_run(page: str, tmp_path: Path) -> None:
    """In their order; those that go on until they are stopped are stopped."""
    lines = [line for code in blocks_of(page, "sh") for line in code.splitlines()]
    shown = [line for line in lines if "calls.jsonl" in line]
    assert tuple(line.split()[1] for line in shown) == ON_LOGS[page]
    with FakeOllama().serve() as url:
        write_log(tmp_path, url)
        for example in [line for line in lines if line.endswith("> prices.toml")]:
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


@pytest.mark.processes
def test_the_options_of_the_replay_server_exist() -> None:
    table = text_of("replay.md").partition("| Option | What it does |")[2].partition("\n\n")[0]
    options = re.findall(r"^\| `(--[\w-]+)", table, re.MULTILINE)
    assert len(options) >= 5
    shown = run_cli(["serve-replay", "--help"])
    assert [option for option in options if option not in shown] == []


def test_the_commands_that_measure_exist() -> None:
    lines = [line for code in blocks_of("overhead.md", "sh") for line in code.splitlines()]
    modules = [line.removeprefix("python -m ") for line in lines]
    assert len(modules) >= 4
    assert all(importlib.util.find_spec(module) for module in modules)
