"""Vocabularies on disk, by the digest of their model; they contain no parts of prompts.

A file has a mark, a hash, and the facts in MessagePack. An unreadable file is treated as absent.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ollama_otel._log.own_files import make_folder, open_own, replace_file
from ollama_otel._tokens.model import ModelFacts

__all__ = ["StoredFacts"]

_MARK: Final = b"ollama_otel vocabulary 1\n"
_HASH_SIZE: Final = 32
_MAX_SIZE: Final = 64 * 1024 * 1024
_KEEP: Final = 16
"""Files that are kept, those used last."""
_SUFFIX: Final = ".vocabulary"


class StoredFacts:
    """A folder of vocabularies; if the disk fails, nothing is stored."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def load(self, digest: str) -> ModelFacts | None:
        """Return the facts of a model; None if they are not stored."""
        path = self._folder / (digest + _SUFFIX)
        try:
            with os.fdopen(open_own(path), "rb") as file:
                content = file.read(_MAX_SIZE + 1)
            os.utime(path)
        except OSError:
            return None
        begin = len(_MARK) + _HASH_SIZE
        payload = content[begin:]
        if content[:begin] != _MARK + hashlib.sha256(payload).digest():
            return None
        try:
            return msgspec.msgpack.decode(payload, type=ModelFacts)
        except msgspec.DecodeError:
            return None

    def save(self, digest: str, facts: ModelFacts) -> None:
        """Store the facts of a model."""
        payload = msgspec.msgpack.encode(facts)
        if len(payload) > _MAX_SIZE - 1024:
            return
        with suppress(OSError):
            make_folder(self._folder)
            path = self._folder / (digest + _SUFFIX)
            replace_file(path, _MARK + hashlib.sha256(payload).digest() + payload)
            self._tidy_up()

    def _tidy_up(self) -> None:
        found = sorted(
            self._folder.glob(f"*{_SUFFIX}"), key=lambda path: path.lstat().st_mtime, reverse=True
        )
        for path in found[_KEEP:]:
            path.unlink(missing_ok=True)
