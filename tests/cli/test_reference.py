"""The reference of the command line: every command, option and variable, and uses that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ollama_otel
from ollama_otel import Client
from ollama_otel._cli import main
from ollama_otel._cli.commands import parser
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeModel, FakeOllama
from tests.generated import REFERENCE, commands

PACKAGE = Path(ollama_otel.__file__).parent
PAGE = (REFERENCE / "cli.md").read_text(encoding="utf-8")
COMMANDS = {each.name: each for each in commands.commands()}
NOT_RUN = {
    *("top", "serve-replay", "tail"),
    *("dashboards up", "dashboards down", "dashboards check", "dashboards import"),
    *("replay", "cost", "report", "capacity", "load", "demo"),
}
"""Commands that end by Ctrl-C, or need a server; and long ones. All have tests of their own."""
MODELS = [FakeModel(name="llama3.2")]


def test_every_command_and_option_is_listed() -> None:
    for name, command in COMMANDS.items():
        section = PAGE.partition(f"\n## ollama-otel {name}\n")[2].partition("\n## ")[0]
        options = [option for each in command.parser._actions for option in each.option_strings]
        assert section, name
        for option in set(options) - {"-h", "--help"}:
            assert re.search(rf"^\| `[^`]*{option}\b", section, re.MULTILINE), (name, option)
        assert "exit status" in section.lower() or name == "dashboards", name


def test_every_command_but_a_group_has_an_example() -> None:
    assert set(commands.EXAMPLES) == set(COMMANDS) - {"dashboards"}
    for name, example in commands.EXAMPLES.items():
        assert example.startswith(name)
        assert f"\nollama-otel {example}\n" in PAGE


@pytest.mark.parametrize("name", sorted(NOT_RUN))
def test_an_example_that_is_not_run_is_understood(name: str) -> None:
    assert callable(parser().parse_args(commands.EXAMPLES[name].split()).run)


def test_every_variable_that_commands_read_is_listed() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("_cli", "_monitoring")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
    )
    read = re.findall(r'(?:environ|variables)(?:\.get\(|\[)"([A-Z_]+)"', code)
    read += re.findall(r'"(\w+)"(?: not)? in os\.environ', code)
    assert len(set(read)) >= 9
    # `PATH` is where a container engine is searched.
    assert set(read) - set(commands.VARIABLES) == {"PATH"}
    # The others have their names in a constant.
    assert [name for name in commands.VARIABLES if f'"{name}"' not in code] == [
        "OLLAMA_OTEL_REPLAY_LOG"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(commands.EXAMPLES.keys() - NOT_RUN))
def test_an_example_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With two logs of a call."""
    monkeypatch.chdir(tmp_path)
    for log in ("calls.jsonl", "again.jsonl"):
        with ReplayLog(log, bodies=True) as written:
            client = Client(transport=FakeOllama(MODELS).transport(), observers=[written])
            list(client.generate("llama3.2", "Hello", stream=True))
    try:
        status = main(commands.EXAMPLES[name].split())
    except SystemExit as end:
        status = end.code
    output = capsys.readouterr()
    assert status == 0, output.err
    assert output.out
