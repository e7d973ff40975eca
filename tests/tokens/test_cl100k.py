"""cl100k comes from the installed file only: nothing is downloaded, and nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_otel._tokens import cl100k
from ollama_otel._tokens.cl100k import count_cl100k
from tests.scripts import run_script


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    cl100k._encoding.cache_clear()
    yield
    cl100k._encoding.cache_clear()


def test_tokens_are_counted() -> None:
    assert count_cl100k("Why is the sky blue?") == 6
    assert count_cl100k("") == 0


@pytest.mark.processes
def test_nothing_is_downloaded_or_written(tmp_path: Path) -> None:
    script = """
        import sys
        def refuse(event, details):
            if event in {"socket.connect", "socket.getaddrinfo"}:
                raise AssertionError(event)
            if event == "open" and details[2] & 0x3:
                raise AssertionError(details)
        sys.dont_write_bytecode = True
        sys.addaudithook(refuse)
        from ollama_otel._tokens.cl100k import count_cl100k
        print(count_cl100k("Why is the sky blue?"))
    """
    assert run_script(script, TMPDIR=str(tmp_path)).strip() == "6"
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_there_is_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert count_cl100k("text") is None


def test_another_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cl100k, "_SHA256", "0" * 64)
    assert count_cl100k("text") is None
    monkeypatch.setattr(cl100k, "_FILE", "data/absent")
    assert count_cl100k("text") is None


def test_without_the_file_there_is_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cl100k, "find_spec", lambda name: None)
    assert count_cl100k("text") is None
