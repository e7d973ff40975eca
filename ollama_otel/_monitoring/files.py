"""Finds the shipped boards, rules and configurations, in a wheel or in a checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ollama_otel._monitoring import MonitoringError

__all__ = ["COMPOSE_FILE", "board_files", "rule_files", "shipped_files", "shipped_folder"]

COMPOSE_FILE: Final = "compose.yaml"
_BOARDS: Final = "grafana/boards"
_RULES: Final = "rules"
_CONTENTS: Final = (
    COMPOSE_FILE,
    "README.md",
    "RUNBOOK.md",
    "collector",
    "grafana",
    "prometheus",
    _RULES,
)
_OF_DEVELOPERS: Final = frozenset({"tests"})
_HERE: Final = Path(__file__).resolve().parent


def shipped_folder(package: Path = _HERE) -> Path:
    """Return the folder; `package` contains this module. Raises `MonitoringError` if missing."""
    in_wheel, in_checkout = package / "files", package.parent.parent / "dashboards"
    for folder in (in_wheel, in_checkout):
        if (folder / COMPOSE_FILE).is_file():
            return folder
    raise MonitoringError(
        f"the dashboards are not installed: expected {COMPOSE_FILE} in {in_wheel} or "
        f"{in_checkout}; install ollama_otel from its wheel, or use a checkout"
    )


def shipped_files(folder: Path) -> Iterator[Path]:
    """Yield the paths of all files for users, relative to `folder`."""
    for name in _CONTENTS:
        top = folder / name
        found = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in found:
            relative = path.relative_to(folder)
            if path.is_file() and not _OF_DEVELOPERS.intersection(relative.parts):
                yield relative


def board_files(folder: Path) -> list[Path]:
    """Return the files of the boards."""
    return sorted((folder / _BOARDS).glob("*.json"))


def rule_files(folder: Path) -> list[Path]:
    """Return the files of alerts and recording rules."""
    return sorted((folder / _RULES).glob("*.yaml"))
