"""Writes the files of boards and rules: `python -m dashboards`, or `--check` them."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from dashboards import boards
from dashboards.alerts import ALERTS
from dashboards.layout import Board, board_json
from dashboards.recording import RECORDINGS
from dashboards.rule_files import alert_rules, recording_rules

HERE: Final = Path(__file__).parent


def all_boards() -> list[Board]:
    """Every board: one for each file in `boards/`."""
    modules = sorted(module.name for module in iter_modules(boards.__path__))
    return [import_module(f"{boards.__name__}.{name}").BOARD for name in modules]


def files() -> dict[Path, str]:
    """What stands in each file that is generated."""
    written = {
        HERE / "grafana" / "boards" / f"{board.uid}.json": board_json(board)
        for board in all_boards()
    }
    written[HERE / "rules" / "ollama-recording.yaml"] = recording_rules(RECORDINGS)
    written[HERE / "rules" / "ollama-alerts.yaml"] = alert_rules(ALERTS)
    return written


def differing() -> list[Path]:
    """The files that are missing, differ from the code, or that no code makes any more."""
    expected = files()
    folders = {path.parent: path.suffix for path in expected}
    found = {path for folder, suffix in folders.items() for path in folder.glob(f"*{suffix}")}
    wrong = [
        path
        for path, text in expected.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return sorted([*wrong, *(found - expected.keys())])


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or tell which of them differ."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if files differ")
    if not parser.parse_args(arguments).check:
        for path, text in files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return 0
    wrong = differing()
    for path in wrong:
        sys.stderr.write(f"{path} differs from the code: run `python -m dashboards`\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
