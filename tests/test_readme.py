"""What the README says is so: its code runs, its commands are CI's, its tables are whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from ollama_otel._telemetry import names
from ollama_otel._wire.failures import ERROR_TYPES
from ollama_otel.settings import Settings
from ollama_otel.testing import FakeOllama

from .collector import collecting

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [
    line for language, code in BLOCKS if language == "sh" for line in code.splitlines() if line
]


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[0])
def test_every_python_block_runs(code: str) -> None:
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {"OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if "configure(" in code:
            assert "chat llama3.2" in {name for _, name in sink.spans()}
            assert "gen_ai.client.operation.duration" in sink.metrics()


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
    compose = "docker compose -f dashboards/compose.yaml up -d"
    demo = "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 ollama-otel demo"
    # Compose needs a container engine; the demo's line runs in the tests of the command.
    assert [command for command in SHELL if command not in {compose, demo}] == [
        "python -m pip install . && ollama-otel demo",
        "python -m pip install --editable '.[dev]' && python -m pytest",
    ]
    assert all(command in ci for command in SHELL if command not in {compose, demo})
    assert (ROOT / "dashboards" / "compose.yaml").exists()


def test_every_setting_and_variable_is_listed() -> None:
    for row in fields(Settings):
        assert f"| `{row.name}` |" in README
        for variable in row.metadata["variables"]:
            assert f"`{variable}`" in README


def test_every_name_that_is_sent_is_listed() -> None:
    full = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and value.startswith(("gen_ai.", "ollama."))
    }
    written = set(re.findall(r"`([\w.]+)`", README))
    shortened = {
        f"{prefix}.{short.lstrip('.')}"
        for prefix in ("gen_ai.request", "ollama.request", "ollama.response")
        for short in written
        if short.startswith(".")
    }
    not_on_calls = {
        names.REQUEST_PREFIX,
        names.TAG_PREFIX,
        names.DETAILS_EVENT,
        names.EXCEPTION_EVENT,
        names.TOKEN_TYPE,
        names.TOKEN_MODALITY,
        names.PROVIDER,
    }
    assert full - not_on_calls - written - shortened == set()


def test_every_metric_and_error_type_is_listed() -> None:
    for genai in names.GENAI_INSTRUMENTS.values():
        for row in fields(genai):
            instrument = getattr(genai, row.name)
            assert instrument is None or f"| `{instrument.name}` |" in README
    for value in vars(names).values():
        if isinstance(value, names.Instrument):
            assert f"| `{value.name}` |" in README
    assert all(f"| `{error_type}` |" in README for error_type in ERROR_TYPES)
    assert all(f"`{phase}`" in README for phase in names.PHASES)
    from ollama_otel._record import Outcome

    assert all(f"`{outcome}`" in README for outcome in get_args(Outcome))
