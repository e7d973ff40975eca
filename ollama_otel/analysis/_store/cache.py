"""The folder for the Parquet files of a log, and whether they are up to date."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import msgspec
from msgspec import Struct

from ollama_otel._log.files import base_of
from ollama_otel._log.own_files import make_folder
from ollama_otel._log.reader import Skipped, log_files
from ollama_otel.analysis._store.columns import COLUMNS

__all__ = ["LogCache"]

_FOLDER: Final = ".ollama-otel-analysis"
_MANIFEST: Final = "manifest.json"
_LAYOUT: Final = hashlib.blake2b(repr([2, *COLUMNS.items()]).encode(), digest_size=8).hexdigest()
"""Version of the columns; files of another version are created again."""
_UNFINISHED: Final = "unfinished-"
_LONGEST_IMPORT: Final = 86_400.0
"""Seconds; older unfinished folders belong to killed processes."""
_SAMPLE: Final = 64 << 10
_SAMPLES: Final = 16


class _SkippedLines(Struct, frozen=True):
    file: str
    line: int
    reason: str
    count: int


class _Manifest(Struct, frozen=True):
    """What the files of a folder were made from."""

    source: str
    skipped: list[_SkippedLines] = []


class LogCache:
    """The Parquet files of one log, in a folder that only this user can read."""

    def __init__(self, log: Path, folder: Path | None) -> None:
        """`folder` is for caches; the default is beside the log, or the user's cache folder."""
        base = base_of(log)
        self._log = log
        name = hashlib.blake2b(str(base).encode(), digest_size=8).hexdigest()
        self.folder = _writable(folder, base.parent) / f"{base.stem}-{name}"

    def source(self) -> str:
        """Return a fingerprint of the content of the log and of the column definitions.

        It consists of sizes and modification times of all files, and a digest of parts of their
        content, so computing it takes milliseconds.
        """
        digest = hashlib.blake2b(_LAYOUT.encode(), digest_size=16)
        for file in log_files(self._log):
            status = file.stat()
            times = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            digest.update(repr((file.name, times)).encode())
            for sample in _samples(file, status.st_size):
                digest.update(sample)
        return digest.hexdigest()

    def find(self, source: str) -> tuple[Skipped, ...] | None:
        """Return what the import of this content skipped; None if it has to be imported."""
        try:
            manifest = msgspec.json.decode((self.folder / _MANIFEST).read_bytes(), type=_Manifest)
        except (OSError, msgspec.MsgspecError):
            return None
        if manifest.source != source or not self.parts(source):
            return None
        return tuple(
            Skipped(file=Path(each.file), line=each.line, reason=each.reason, count=each.count)
            for each in manifest.skipped
        )

    def parts(self, source: str) -> list[Path]:
        """Return the Parquet files of this content."""
        return sorted((self.folder / source).glob("part-*.parquet"))

    def begin(self) -> Path:
        """Return an empty folder for an import."""
        make_folder(self.folder)
        return Path(mkdtemp(prefix=_UNFINISHED, dir=self.folder))

    def finish(self, made: Path, source: str, skipped: Iterable[Skipped]) -> None:
        """Keep the files of an import, and delete those of older content."""
        manifest = _Manifest(
            source=source,
            skipped=[_SkippedLines(str(s.file), s.line, s.reason, s.count) for s in skipped],
        )
        shutil.rmtree(made / "spilled", ignore_errors=True)
        kept = self.folder / source
        # Another process may have made the same files meanwhile, and read them.
        with suppress(OSError):
            made.rename(kept)
        half_written = self.folder / f"{_MANIFEST}.{os.getpid()}"
        half_written.write_bytes(msgspec.json.encode(manifest))
        half_written.replace(self.folder / _MANIFEST)
        for other in self.folder.iterdir():
            if other.is_dir() and other != kept and not _is_under_way(other):
                shutil.rmtree(other, ignore_errors=True)


def _is_under_way(folder: Path) -> bool:
    """Whether a process may still be importing into a folder."""
    if not folder.name.startswith(_UNFINISHED):
        return False
    try:
        return time.time() - folder.stat().st_mtime < _LONGEST_IMPORT
    except OSError:
        # That process has finished just now.
        return True


def _samples(file: Path, size: int) -> Iterable[bytes]:
    with file.open("rb") as stream:
        for number in range(_SAMPLES):
            stream.seek(max(0, (size - _SAMPLE) * number // (_SAMPLES - 1)))
            yield stream.read(_SAMPLE)
            if size <= _SAMPLE:
                return


def _writable(chosen: Path | None, beside: Path) -> Path:
    """Return the folder for caches; only a chosen one must be writable."""
    if chosen is not None:
        return chosen
    folder = beside / _FOLDER
    with suppress(OSError):
        make_folder(folder)
    if os.access(folder, os.W_OK):
        return folder
    return Path.home() / ".cache" / "ollama_otel" / "analysis"
