"""What `docs/capacity.md` says works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel.analysis._capacity.server import ServerSetup
from ollama_otel.analysis._capacity.simulation import simulate

from .simulated_log import poisson, write_log
from .test_learning import SPEED

PAGE = (Path(__file__).parents[3] / "docs" / "capacity.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(CODE,) = (code for language, code in BLOCKS if language == "python")
(COMMANDS,) = (code.splitlines() for language, code in BLOCKS if language == "bash")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    ends = simulate(poisson(2.5, 100), ServerSetup(models={"m": SPEED}, num_parallel=2)).ends
    write_log(folder / "calls.jsonl", ends)
    return folder


@pytest.mark.processes
def test_the_block_runs(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "users" in done.stdout
    assert "p95 of the first token: " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    program, *arguments = shlex.split(command)
    assert program == "ollama-otel"
    assert main(arguments) == 0
    assert "NUM_PARALLEL" in capsys.readouterr().out


def test_every_argument_of_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["capacity", "--help"])
    told = capsys.readouterr().out
    for argument in set(re.findall(r"`(--[a-z-]+)`", PAGE)):
        assert argument in told
