"""What the README says is so: its code runs, its commands are CI's, its tables are whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ollama_otel._cli.commands import COMMANDS
from ollama_otel.testing import FakeOllama
from tests.documents import DOCS, ROOT, blocks_of, run_block, text_of

from .collector import collecting

PAGE = "../README.md"
README = text_of(PAGE)
LONGEST = 220
"""Lines; what does not fit goes to a page of `docs/`."""
SHELL = [line for code in blocks_of(PAGE, "sh") for line in code.splitlines()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", blocks_of(PAGE), ids=lambda code: code.splitlines()[0])
def test_every_python_block_runs(code: str, tmp_path: Path) -> None:
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {"OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        done = run_block(code, tmp_path, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert "chat llama3.2" in {name for _, name in sink.spans()}
        assert "gen_ai.client.operation.duration" in sink.metrics()


@pytest.fixture(scope="module")
def demo() -> str:
    """Return what the demo prints with its scripted server."""
    done = subprocess.run(
        [sys.executable, "-m", "ollama_otel._cli", "demo", "--no-color"],
        env=os.environ | {"OLLAMA_HOST": "127.0.0.1:1", "COLUMNS": "88", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    return done.stdout.replace("http://127.0.0.1:1;", "http://127.0.0.1:11434;")


@pytest.mark.processes
@pytest.mark.parametrize(("page", "calls"), [(PAGE, 2), ("getting-started.md", 6)])
def test_the_demo_looks_as_shown(page: str, calls: int, demo: str) -> None:
    """Numbers and bars aside, which are other ones every time."""

    def skeleton(text: str) -> str:
        plain = re.sub(r"[\d.]+ (ms|s)\b", "# s", text)
        lines = [re.sub(r"[\d.█ ]+", " ", line).strip() for line in plain.splitlines() if line]
        return "\n".join(lines)

    shown = next(code for code in blocks_of(page, "text") if "A first chat" in code)
    assert len(re.findall(r"^\d  ", shown, re.MULTILINE)) == calls
    assert skeleton(shown) in skeleton(demo)


def test_every_block_has_a_language_that_is_run_or_shown() -> None:
    languages = re.findall(r"^```(\w*)\n.*?^```$", README, re.MULTILINE | re.DOTALL)
    assert set(languages) == {"python", "sh", "text"}


def test_the_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert SHELL == [
        "python -m pip install . && ollama-otel demo",
        "python -m pip install 'pip>=25.1' && python -m pip install --editable '.[all]' --group dev && python -m pytest",
    ]
    assert all(command in ci for command in SHELL)


def test_the_commands_that_it_names_exist() -> None:
    named = set(re.findall(r"`ollama-otel (\S+?)[ `]", README))
    assert len(named) >= 10
    assert named <= {command.name for command in COMMANDS}


def test_every_extra_is_listed() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \|", README.partition("\n## Extras\n")[2], re.MULTILINE)
    assert listed == [*sorted(PROJECT["optional-dependencies"].keys() - {"all", "dev"}), "all"]


def test_the_versions_are_those_of_the_tests() -> None:
    [python] = re.findall(r"^It needs Python (3\.\d+) or later\.$", README, re.MULTILINE)
    assert PROJECT["requires-python"] == f">={python}"
    [ollama] = re.findall(r"^It is tested with Ollama (\d+\.\d+);", README, re.MULTILINE)
    installed = (ROOT / "tests" / "real" / "install.py").read_text(encoding="utf-8")
    assert re.search(rf'^OLLAMA = "{re.escape(ollama)}\.\d+"$', installed, re.MULTILINE)


def test_its_ratios_are_measured() -> None:
    rows = [line for line in README.splitlines() if re.search(r"\d\.\d\dx", line)]
    assert len(rows) >= 3
    assert set(rows) <= set(text_of("overhead.md").splitlines())


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_page_is_linked(page: str) -> None:
    assert re.search(rf"\]\(docs/{re.escape(page)}[)#]", README)
