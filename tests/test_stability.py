"""What `docs/stability.md` calls stable: the list of names, and the tests that the page names."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from .stable_names import FILE, stable_names

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
KINDS = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_stable_names_are_these(kind: str) -> None:
    before, now = set(KINDS[kind]), set(stable_names()[kind])
    how = "run `python -m tests.stable_names`, and write it into CHANGELOG.md"
    assert before - now == set(), f"gone, although docs/stability.md calls it stable; {how}"
    assert now - before == set(), f"new; {how}"


def test_every_kind_of_name_has_some() -> None:
    assert KINDS.keys() == stable_names().keys()
    assert all(len(names) > 3 for names in KINDS.values())


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and " Test |" not in line]
    assert len(rows) > 15
    assert [row for row in rows if "`tests/" not in row and "tests named there" not in row] == []
