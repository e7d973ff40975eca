"""Every message that `docs/troubleshooting.md` quotes is a text of the library."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import ollama_otel

PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PACKAGE = Path(ollama_otel.__file__).parent
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
    for section in PAGE.split("\n## ")[1:]
    for line in section.splitlines()
    if line.startswith("|") and not line.startswith(("| Symptom", "|---"))
]
MESSAGES = [
    code
    for symptom, *_ in ROWS
    for code in re.findall(r"`([^`]+)`", symptom)
    if code.count(" ") > 1
]


@cache
def texts() -> tuple[str, ...]:
    """Return the texts in the code; what is put into them is `\\0`."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(value=str(text)):
                    found.append(re.sub(r"%[sdrg]", "\0", text))
                case ast.JoinedStr(values=values):
                    parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in values]
                    found.append("".join(map(str, parts)))
    return tuple(found)


def test_there_are_rows_in_each_section() -> None:
    assert len(ROWS) > 50
    assert len(MESSAGES) > 40
    assert {len(row) for row in ROWS} == {3}
    assert all(cell for row in ROWS for cell in row)


@pytest.mark.slow
@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_of_the_library(message: str) -> None:
    # Several texts may make one message, as a cause and the sentence around it.
    for part in filter(None, (part.strip(" ,:;") for part in re.split(r"\.\.\.|; ", message))):
        assert any(part in text for text in texts()), part


def test_a_message_that_nobody_writes_would_be_noticed() -> None:
    assert not any("the replay log is on fire" in text for text in texts())
