"""Every block of the page runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_otel.testing import FakeOllama
from tests.documents import blocks_of, run_block

PAGE = (Path(__file__).parents[2] / "docs" / "resilience.md").read_text(encoding="utf-8")
BLOCKS = blocks_of("resilience.md")


def test_the_page_has_its_blocks() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.splitlines()[0])
def test_every_block_runs(code: str) -> None:
    with FakeOllama().serve() as url:
        done = run_block(code, OLLAMA_HOST=url, no_proxy="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
