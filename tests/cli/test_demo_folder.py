"""The folder of the demo: a new one each time, and old ones go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ollama_otel._cli import demo_folder

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def earlier(folder: Path, *names: str, age: float = 2 * DAY) -> Path:
    """A folder as a demo left it, `age` seconds ago."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("")
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


def test_each_demo_has_a_folder_of_its_own(temporary: Path) -> None:
    first, second = demo_folder.new_folder(), demo_folder.new_folder()
    assert first != second
    assert first.parent == second.parent == temporary
    assert first.is_dir()


def test_the_folder_of_an_earlier_day_is_removed(temporary: Path) -> None:
    old = earlier(temporary / "ollama-otel-demo-a", "calls.jsonl", "report.html")
    bare = earlier(temporary / "ollama-otel-demo-b")
    new = demo_folder.new_folder()
    assert [*temporary.iterdir()] == [new]
    assert not old.exists()
    assert not bare.exists()


def test_what_may_be_wanted_is_kept(temporary: Path) -> None:
    kept = [
        earlier(temporary / "ollama-otel-demo-today", "calls.jsonl", age=DAY / 2),
        earlier(temporary / "ollama-otel-demo-used", "calls.jsonl", "notes.txt"),
        earlier(temporary / "something-else", "calls.jsonl"),
    ]
    demo_folder.new_folder()
    assert all((folder / "calls.jsonl").exists() for folder in kept)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no owners like this")
def test_the_folder_of_another_user_is_kept(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = earlier(temporary / "ollama-otel-demo-a", "calls.jsonl")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    demo_folder.new_folder()
    assert (old / "calls.jsonl").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a privilege for links")
def test_a_link_is_not_followed(temporary: Path) -> None:
    target = earlier(temporary / "elsewhere", "calls.jsonl")
    (temporary / "ollama-otel-demo-link").symlink_to(target)
    demo_folder.new_folder()
    assert (target / "calls.jsonl").exists()


def test_a_folder_that_cannot_be_removed_does_not_stop_the_demo(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    earlier(temporary / "ollama-otel-demo-a", "calls.jsonl")
    monkeypatch.setattr(Path, "unlink", refuse)
    assert demo_folder.new_folder().is_dir()
