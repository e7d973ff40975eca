"""The pages for a first hour do what they say: every block of them is run, in their order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

import ollama_otel
from ollama_otel.replay import read
from ollama_otel.testing import FakeOllama
from tests.documents import DOCS, ROOT, blocks_of
from tests.packages import need

from .collector import Collector, collecting

BOARDS = (ROOT / "dashboards" / "README.md").read_text(encoding="utf-8")


def lines_of(name: str) -> list[str]:
    return [line for code in blocks_of(name, "sh") for line in code.splitlines() if line]


def commands_in(folder: Path) -> str:
    """Return a PATH on which `python` and `ollama-otel` are those of this test."""
    commands = folder / "bin"
    commands.mkdir()
    for name, script in {
        "ollama-otel": f'exec "{sys.executable}" -m ollama_otel._cli "$@"\n',
        "python": f'exec "{sys.executable}" "$@"\n',
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}")
        (commands / name).chmod(0o755)
    return os.pathsep.join((str(commands), os.environ["PATH"]))


def run(command: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert done.stderr == "", command
    return done.stdout


@pytest.mark.parametrize("name", ["getting-started.md", "ways-in.md", "production.md"])
def test_every_block_has_a_language_that_is_run_or_shown(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    languages = re.findall(r"^```(\w*)\n.*?^```$", text, re.MULTILINE | re.DOTALL)
    assert set(languages) <= {"python", "sh", "text", "yaml"}


# --- getting started ----------------------------------------------------------------------

NEEDS_MORE_THAN_A_FAKE = {
    # CI installs the package; the line of the demo is run below.
    "python -m pip install '.[analysis,server]'",
    # A container engine, or the servers of `real/test_getting_started.py`.
    "ollama-otel dashboards up",
    "ollama-otel dashboards check",
    "jaeger",
    "ollama pull llama3.2",
}


@pytest.mark.sockets
@pytest.mark.processes
def test_the_first_ten_minutes(tmp_path: Path) -> None:
    (app,) = blocks_of("getting-started.md", "python")
    (tmp_path / "app.py").write_text(app)
    printed = {}
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {
            "OLLAMA_HOST": url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "PATH": commands_in(tmp_path),
            "COLUMNS": "88",
        }
        lines = lines_of("getting-started.md")
        for line in lines:
            if line in NEEDS_MORE_THAN_A_FAKE or line.startswith(("export ", "prometheus ")):
                continue
            if line.startswith("ollama-otel serve-replay"):
                played = serve_and_play(line, lines, tmp_path, environment)
                assert played == printed["app"]
                continue
            if line == "OLLAMA_HOST=127.0.0.1:11500 python app.py":
                continue  # with the line before it
            printed[line] = run(line, tmp_path, environment)
            if line.endswith("python app.py"):
                printed["app"] = printed[line]
            if line.endswith("> prices.toml"):
                edit_prices(tmp_path / "prices.toml", url)
        assert spans_of(sink, "my-app") == ["chat llama3.2"] * 4
        assert "gen_ai.client.operation.duration" in sink.metrics()
    assert (tmp_path / "ollama-dashboards" / "prometheus" / "prometheus.yml").exists()
    assert "2 pairs: 2 identical" in printed["ollama-otel diff calls.jsonl again.jsonl"]
    cost = printed["ollama-otel cost calls.jsonl --prices prices.toml"]
    assert re.match(r"2 calls from .* cost [\d.]+ EUR:\s", cost)
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")


def spans_of(sink: Collector, service: str) -> list[str]:
    return [name for each, name in sink.spans() if each == service]


def serve_and_play(
    line: str, lines: list[str], folder: Path, environment: Mapping[str, str]
) -> str:
    """Run the replay server on a free port, and the next line against it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "ollama_otel._cli", *line.split()[1:], "--listen", "127.0.0.1:0"],
        cwd=folder,
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        served = re.search(r"http://(\S+)", server.stdout.readline())
        assert served is not None
        player = lines[lines.index(line) + 1]
        assert "127.0.0.1:11500" in player
        return run(player.replace("127.0.0.1:11500", served[1]), folder, environment)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


def edit_prices(file: Path, url: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert "localhost:11434" in tomllib.loads(text)["machine"][0]["servers"]
    file.write_text(text.replace("localhost:11434", url.removeprefix("http://")))


def test_what_is_not_run_here_is_as_the_page_on_dashboards_says() -> None:
    lines = lines_of("getting-started.md")
    documented = set(BOARDS.splitlines())
    for line in lines:
        if line.startswith(("prometheus ", "jaeger", "export OTEL_EXPORTER_OTLP_")):
            assert line in documented, line


# --- ways in ------------------------------------------------------------------------------

OF_OTHERS = {"langchain_ollama", "llama_index"}
"""Packages that only the group `examples` has."""


ON_V1 = ("from openai", "from anthropic")
"""In blocks that call routes which only a real Ollama has: `real/test_ways_in.py` runs them."""


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize(
    "code",
    [code for code in blocks_of("ways-in.md", "python") if not any(each in code for each in ON_V1)],
)
def test_every_way_in_records_its_call(code: str, tmp_path: Path) -> None:
    need(*OF_OTHERS & set(re.findall(r"^from (\w+)", code, re.MULTILINE)))
    with FakeOllama().serve() as url, collecting() as sink:
        (tmp_path / "app.py").write_text(code.replace("http://localhost:11434", url))
        environment = {"OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        assert run(f'"{sys.executable}" app.py', tmp_path, environment)
        names = [name for _, name in sink.spans()]
        assert {"chat llama3.2", "text_completion llama3.2"} & set(names)
        if "Agent(" in code:
            assert "invoke_agent maths" in names
        assert "gen_ai.client.operation.duration" in sink.metrics()


def test_the_commands_without_a_change_are_those_that_are_tested() -> None:
    """In `test_first_call.py`, and with the default protocol in `real/test_zero_code.py`."""
    assert lines_of("ways-in.md") == [
        "pip install 'ollama_otel[zero-code]'",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 opentelemetry-instrument python app.py",
    ]


# --- in production ------------------------------------------------------------------------

FIVE_CALLS = """
from ollama_otel import Client, configure
configure(replay_log="calls.jsonl")
for _ in range(5):
    Client().chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
"""
HANDLER = 'print(handler({"question": "Hello"}, None)); import os; os._exit(0)'
"""Ends like a function that is frozen: without the hooks of the interpreter's exit."""


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", blocks_of("production.md", "python"))
def test_every_block_about_production_runs(code: str, tmp_path: Path) -> None:
    is_function = "def handler" in code
    (tmp_path / "app.py").write_text(code + (HANDLER.replace("; import", "\nimport") * is_function))
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {"OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        printed = run(f'"{sys.executable}" app.py', tmp_path, environment)
        assert ("fake model" in printed) == is_function
        assert spans_of(sink, "summary") == ["chat llama3.2"] * is_function


@pytest.mark.sockets
@pytest.mark.processes
def test_sampling_changes_spans_and_nothing_else(tmp_path: Path) -> None:
    (line,) = (line for line in lines_of("production.md") if "SAMPLER" in line)
    (tmp_path / "app.py").write_text(FIVE_CALLS)
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {
            "OLLAMA_HOST": url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "PATH": commands_in(tmp_path),
        }
        assert "ARG=0.1" in line
        run(line.replace("ARG=0.1", "ARG=0"), tmp_path, environment)
        assert sink.spans() == []
        assert sink.durations() == {"completed": 5}
    calls = list(read(tmp_path / "calls.jsonl"))
    assert [call.record.start.is_sampled for call in calls] == [False] * 5


@pytest.mark.sockets
@pytest.mark.processes
def test_the_names_of_the_page_arrive(tmp_path: Path) -> None:
    names = [line for line in lines_of("production.md") if line.startswith("export ")]
    (tmp_path / "app.py").write_text(FIVE_CALLS)
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {
            "OLLAMA_HOST": url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "PATH": commands_in(tmp_path),
        }
        run("\n".join([*names, "python app.py"]), tmp_path, environment)
        assert spans_of(sink, "web") == ["chat llama3.2"] * 5


# --- comparison ---------------------------------------------------------------------------


def test_the_comparison_is_with_this_version() -> None:
    """A new version may do more: compare again, and name the day."""
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith("| Version looked at |"))
    assert row.split("|")[-2].strip() == ollama_otel.__version__
