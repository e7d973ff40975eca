"""The page on the architecture: its rooms are those of the package, and its words have one row."""

from __future__ import annotations

import re
from pathlib import Path

import ollama_otel
from tests.documents import ROOT, text_of

PACKAGE = Path(ollama_otel.__file__).parent
PAGE = text_of("architecture.md")
NOT_ROOMS = {"__init__", "__main__", "__pycache__", "py"}


def rows_of(heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [
        row.split(" | ")[0].removeprefix("| ") for row in re.findall(r"^\| .+", part, re.MULTILINE)
    ][1:]


def test_every_room_has_a_row() -> None:
    named = [name for row in rows_of("Rooms") for name in re.findall(r"`([\w.]+)/?`", row)]
    rooms = {path.name for path in PACKAGE.iterdir() if path.stem not in NOT_ROOMS}
    rooms -= {"py.typed"}
    assert rooms - set(named) == set()
    assert [
        name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()
    ] == []
    assert len(set(named)) == len(named)


def test_every_named_module_exists() -> None:
    files = {path.name for path in ROOT.rglob("*.py")}
    paths = set(re.findall(r"`([\w/]+\.py)`", PAGE))
    assert len(paths) > 20
    assert [path for path in paths if path.rpartition("/")[2] not in files] == []
    deep = [path for path in paths if "/" in path]
    assert [p for p in deep if not any((root / p).exists() for root in (PACKAGE, ROOT))] == []


def test_every_word_has_one_row() -> None:
    words = [re.sub(r" \(.*\)", "", word) for row in rows_of("Words") for word in row.split(", ")]
    twice = {word for word in words if words.count(word) > 1}
    # Of a stream it is a framed document, of a conversation what somebody said.
    assert twice == {"message"}
