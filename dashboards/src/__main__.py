"""Generates the files of boards and rules: `python -m dashboards.src [--check]`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from dashboards.src import boards
from dashboards.src.alerts import ALERTS
from dashboards.src.layout import Board, board_json
from dashboards.src.recording import RECORDINGS
from dashboards.src.rule_files import alert_rules, recording_rules

FOLDER: Final = Path(__file__).parent.parent


def all_boards() -> list[Board]:
    """Return the boards: one per module of `boards`."""
    modules = sorted(module.name for module in iter_modules(boards.__path__))
    return [import_module(f"{boards.__name__}.{name}").BOARD for name in modules]


def files(folder: Path) -> dict[Path, str]:
    """Return the content of every generated file."""
    written = {
        folder / "grafana" / "boards" / f"{board.uid}.json": board_json(board)
        for board in all_boards()
    }
    written[folder / "rules" / "ollama-recording.yaml"] = recording_rules(RECORDINGS)
    written[folder / "rules" / "ollama-alerts.yaml"] = alert_rules(ALERTS)
    return written


def differing(folder: Path) -> list[Path]:
    """Return the files that are missing, outdated, or no longer generated."""
    expected = files(folder)
    folders = {path.parent: path.suffix for path in expected}
    found = {path for each, suffix in folders.items() for path in each.glob(f"*{suffix}")}
    wrong = [
        path
        for path, text in expected.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return sorted([*wrong, *(found - expected.keys())])


def main(arguments: list[str] | None = None, *, folder: Path = FOLDER) -> int:
    """Write the files, or report which of them differ."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.src", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if files differ")
    if not parser.parse_args(arguments).check:
        for path, text in files(folder).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    wrong = differing(folder)
    for path in wrong:
        sys.stderr.write(f"{path} differs from the code: run `python -m dashboards.src`\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
