"""Copies the shipped files into a folder, without overwriting changed files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ollama_otel._log.own_files import replace_file
from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.files import board_files, shipped_files

__all__ = ["Exported", "board_with_source", "export"]

_SOURCE_VARIABLE: Final = "datasource"
_SOURCE_USES: Final = frozenset({"${datasource}", "$datasource"})
_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Result of an export."""

    written: tuple[Path, ...]
    """Paths are relative to the folder."""
    unchanged: tuple[Path, ...]


def export(
    folder: Path, out: Path, *, source: str | None = None, overwrite: bool = False
) -> Exported:
    """Write all files of `folder` to `out`, or none.

    `source` is the uid of a Prometheus data source that the boards use instead of their variable.
    Raises `MonitoringError` if a file exists with other content and `overwrite` is false, or if
    writing fails.
    """
    wanted = dict(_contents(folder, source))
    here = {path: (out / path).read_bytes() for path in wanted if (out / path).is_file()}
    differing = [path for path, content in here.items() if content != wanted[path]]
    if differing and not overwrite:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        raise MonitoringError(
            f"{out} has different files with these names: {', '.join(map(str, differing[:_NAMED]))}"
            f"{more}; --force overwrites them, --out names another folder"
        )
    written = tuple(path for path, content in wanted.items() if here.get(path) != content)
    try:
        for path in written:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(out / path, wanted[path])
    except OSError as error:
        raise MonitoringError(f"cannot write to {out}: {error}") from None
    return Exported(
        written=written, unchanged=tuple(path for path in wanted if path not in written)
    )


def board_with_source(board: Any, source: str) -> Any:
    """Return a board with a fixed data source instead of a variable."""
    listed = board.get("templating", {}).get("list", [])
    kept = [each for each in listed if each.get("name") != _SOURCE_VARIABLE]
    fixed = {**board, "templating": {**board.get("templating", {}), "list": kept}}
    return _replaced(fixed, source)


def _replaced(value: Any, source: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(each, source) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, source) for each in value]
    return source if isinstance(value, str) and value in _SOURCE_USES else value


def _contents(folder: Path, source: str | None) -> Iterator[tuple[Path, bytes]]:
    boards = {path.relative_to(folder) for path in board_files(folder)}
    for path in shipped_files(folder):
        content = (folder / path).read_bytes()
        if source is not None and path in boards:
            fixed = board_with_source(json.loads(content), source)
            content = (json.dumps(fixed, indent=2) + "\n").encode()
        yield path, content
