"""The commands and the code on `docs/cost.md` run, and its price file is one."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel._prices.reading import parse_prices
from ollama_otel.analysis import read_measured
from ollama_otel.testing import FakeOllama
from tests.analysis.cost.logs import call, write_log

from .collector import collecting

PAGE = (Path(__file__).parents[1] / "docs" / "cost.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
[PRICES] = [code for language, code in BLOCKS if language == "toml"]
COMMANDS = [
    line.partition("#")[0]
    for language, code in BLOCKS
    if not language
    for line in code.splitlines()
    if line.startswith("ollama-otel")
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    server = {"server": "localhost", "model": "llama3.2"}
    write_log(tmp_path / "calls.jsonl", call(0, 4, **server), call(2, 4, **server, user_id="anna"))
    (tmp_path / "prices.toml").write_text(PRICES)
    (tmp_path / "power.csv").write_text("time,joules\n2026-03-02T00:00,0\n2026-03-02T00:01,999\n")
    return tmp_path


def test_the_price_file_is_one() -> None:
    assert parse_prices(PRICES, "p").machine[0].slots == 4


def test_every_block_is_of_a_known_kind() -> None:
    assert {language for language, _ in BLOCKS} == {"", "toml", "sh", "python"}
    assert len(COMMANDS) == 4


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "sh"])
def test_scripts_that_measure_make_a_file_that_can_be_read(code: str, tmp_path: Path) -> None:
    programs = {
        "nvidia-smi": "echo 60.5; echo 40",
        "ollama": "echo NAME ID; echo llama3.2 1",
        "sleep": '[ "$(wc -l < power.csv)" -lt 4 ] && /bin/sleep 1.1',
        "curl": """echo '{"data": {"result": [{"values": [[1, "5"], [16, "9.5"]]}]}}'""",
        "jq": "cat > given.json; echo time,joules; echo 1,5; echo 16,9.5",
    }
    for name, script in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    found = read_measured(tmp_path / "power.csv")
    assert len(found.joules) >= 1
    assert found.joules.min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    arguments = shlex.split(command.partition(">")[0])[1:]
    with contextlib.suppress(SystemExit):
        assert main(arguments) == 0
    assert capsys.readouterr().out


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_every_block_runs(code: str, folder: Path) -> None:
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {"OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "anna" in done.stdout or "configure" in code
