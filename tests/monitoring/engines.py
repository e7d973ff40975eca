"""Substitutes for docker and podman: real programs that record their arguments and answer from a script."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = """\
#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
call = {{"program": Path(__file__).name, "words": sys.argv[1:], "logs": os.environ.get("OLLAMA_OTEL_LOGS"), "password": os.environ.get("GRAFANA_ADMIN_PASSWORD"), "no_admin": os.environ.get("GRAFANA_NO_ADMIN")}}
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(call) + "\\n")
command = " ".join([call["program"], *call["words"]])
for part, status, out, err in json.loads((here / "answers.json").read_text()):
    if part in command:
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(status)
"""


@dataclass(frozen=True)
class Engines:
    folder: Path

    def commands(self) -> list[str]:
        """The commands that were run, each as one line."""
        return [f"{each['program']} {' '.join(each['words'])}" for each in self.calls()]

    def calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def install(
    folder: Path, *programs: str, answers: tuple[tuple[str, int, str, str], ...]
) -> Engines:
    """Put programs into a folder; each answer is for the first command that has its words in it.

    What no answer is for succeeds and says nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_text(json.dumps(answers))
    for name in programs:
        (folder / name).write_text(PROGRAM.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return Engines(folder)
