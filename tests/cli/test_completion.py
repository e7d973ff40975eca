"""The command `completion`: what a shell offers with the script that it prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ollama_otel._cli import main
from ollama_otel._cli.commands import COMMANDS

_CASES = {
    "d": ["demo", "dashboards", "diff"],
    "show --fa": ["--failed"],
    "show --model capacity --li": ["--limit"],
    "dashboards im": ["import"],
    "dashboards import --gr": ["--grafana"],
    "completion ": ["bash", "fish", "zsh"],
}
"""What is typed, and what is offered."""
_BASH = """\
. "$1"
read -ra COMP_WORDS <<< "ollama-otel $2"
[[ "$2" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_ollama_otel
printf '%s\\n' "${COMPREPLY[@]}"
"""
_FISH = 'source $argv[1]; complete -C "ollama-otel $argv[2]"'


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_has_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = script(shell, capsys).replace('"', " ").split()
    assert {command.name for command in COMMANDS} <= {*words}


@pytest.mark.processes
@pytest.mark.parametrize("typed", _CASES)
@pytest.mark.parametrize(
    ("shell", "options"), [("bash", ["--norc", "-c", _BASH, "-"]), ("fish", ["-N", "-c", _FISH])]
)
def test_a_shell_offers_what_can_follow(
    shell: str,
    options: list[str],
    typed: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"there is no {shell}")
    file = tmp_path / "script"
    file.write_text(script(shell, capsys), encoding="utf-8")
    done = subprocess.run(
        [program, *options, file, typed], capture_output=True, text=True, timeout=60, check=True
    )
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert sorted(offered) == sorted(_CASES[typed])


def test_an_unknown_shell_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcsh"])
    assert ended.value.code == 2
    assert "'tcsh'" in capsys.readouterr().err
