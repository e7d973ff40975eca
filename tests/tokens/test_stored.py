"""Vocabularies are stored for this user only, and anything odd on disk is as absent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ollama_otel._tokens.stored import StoredFacts

from .tables import facts

A, B = "a" * 64, "b" * 64


@pytest.fixture
def stored(tmp_path: Path) -> StoredFacts:
    return StoredFacts(tmp_path / "new" / "vocabularies")


def file_of(stored: StoredFacts, digest: str = A) -> Path:
    return stored._folder / f"{digest}.vocabulary"


def test_what_is_stored_is_loaded(stored: StoredFacts) -> None:
    assert stored.load(A) is None
    stored.save(A, facts())
    found = stored.load(A)
    assert found == facts()
    assert found is not None
    assert found.vocabulary is not None
    assert found.vocabulary.count("hello wor") == 3
    assert stored.load(B) is None


def test_nothing_of_a_prompt_is_in_it(stored: StoredFacts) -> None:
    known = facts()
    assert known.vocabulary is not None
    known.vocabulary.count("my secret prompt")
    stored.save(A, known)
    assert b"secret" not in file_of(stored).read_bytes()


@pytest.mark.parametrize("place", [0, 30, -1])
def test_a_changed_file_is_as_absent(stored: StoredFacts, place: int) -> None:
    stored.save(A, facts())
    content = bytearray(file_of(stored).read_bytes())
    content[place] ^= 1
    file_of(stored).write_bytes(content)
    assert stored.load(A) is None
    stored.save(A, facts())
    assert stored.load(A) == facts()


@pytest.mark.parametrize("content", [b"", b"x", b"ollama_otel vocabulary 1\n"])
def test_a_short_file_is_as_absent(stored: StoredFacts, content: bytes) -> None:
    stored.save(A, facts())
    file_of(stored).write_bytes(content)
    assert stored.load(A) is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_a_link_is_not_followed(stored: StoredFacts, tmp_path: Path) -> None:
    stored.save(A, facts())
    elsewhere = tmp_path / "elsewhere"
    file_of(stored).rename(elsewhere)
    file_of(stored).symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert stored.load(A) is None
    stored.save(A, facts())
    assert elsewhere.read_bytes() == before
    assert not file_of(stored).is_symlink()


def test_a_folder_that_cannot_be_written_means_only_that_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    stored = StoredFacts(tmp_path / "file" / "below")
    stored.save(A, facts())
    assert stored.load(A) is None


def test_the_files_used_last_are_kept(stored: StoredFacts) -> None:
    digests = [f"{number:064x}" for number in range(20)]
    for age, digest in enumerate(digests[:16]):
        stored.save(digest, facts())
        os.utime(file_of(stored, digest), (age, age))
    assert stored.load(digests[0]) is not None
    for digest in digests[16:]:
        stored.save(digest, facts())
    left = {path.stem for path in stored._folder.iterdir()}
    assert left == {digests[0], *digests[5:]}
