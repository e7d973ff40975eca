"""What `docs/advice.md` says is there, and works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from ollama_otel.analysis import AdviceKind
from tests.documents import blocks_of

from . import cases
from .synthetic import write

PAGE = (Path(__file__).parents[3] / "docs" / "advice.md").read_text(encoding="utf-8")


def test_each_kind_has_its_section() -> None:
    sections = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert sorted(sections) == sorted(get_args(AdviceKind))


@pytest.mark.slow
def test_the_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "calls.jsonl", cases.mixed_num_ctx())
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of("advice.md")
    exec(compile(block, "docs/advice.md", "exec"), {"__name__": "page"})
    assert "mixed_num_ctx qwen3:8b num_ctx 2048 1.99" in capsys.readouterr().out
