"""The files of a log: their names, locks, rotation, compression and deletion.

One process writes `calls.jsonl`; each further process at the same time writes
`calls.pid<pid>.jsonl`. A new process continues the file of a process that has ended. A full or old
file becomes `calls.<time>-<pid>.jsonl`, and then a `.gz`.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from ollama_otel._display import logger
from ollama_otel._log.own_files import (
    NotOwnError,
    create,
    current_user,
    is_own,
    is_regular,
    make_folder,
    open_or_create,
    open_own,
    owner_of,
)

__all__ = ["LogFile", "base_of", "files_of"]

_log = logger()

_FOLDERS_FILE: Final = "calls.jsonl"
"""The log's file in a folder."""
_PRIVATE = 0o600
_COPY = 1024 * 1024
_FAR_BEYOND = 2**40
"""Offset of the locked byte: on Windows others cannot read it, so it must never be written."""

_FULL: Final = 0.5
"""Share of `max_size` from which an archived file counts as full."""
_BEGINNING: Final = b'{"v":#,"event":'
"""The first bytes of every line of a log; `#` stands for the version."""
_VERSION: Final = re.compile(rb"(?<=^\{\"v\":)\d+")
_TOLERANCE: Final = 86_400.0
"""Seconds that the clock may have been ahead when a file got its name."""
_ARCHIVED = r"\d{8}T\d{12}Z-\d+"


def base_of(path: str | os.PathLike[str]) -> Path:
    """Return the file named by `path`; for a folder, `calls.jsonl` in it."""
    text = os.fspath(path)
    is_folder = text.endswith(("/", os.sep)) or os.path.isdir(text)  # noqa: PTH112 - as given
    return Path(os.path.abspath(text)) / _FOLDERS_FILE if is_folder else Path(os.path.abspath(text))  # noqa: PTH100 - links stay what they are


def files_of(base: Path) -> list[Path]:
    """Return the files of a log: archived ones from old to new, then those being written."""
    siblings = _readable_siblings(base)
    found = [path for path, _ in _archived(base, siblings)]
    found += sorted(_written_by_others(base, siblings))
    return [*found, base] if base.is_file() else found


def _archived(base: Path, siblings: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return archived files and their times, from old to new; one copy of each."""
    pattern = re.compile(rf"{re.escape(base.stem)}\.({_ARCHIVED}){re.escape(base.suffix)}(\.gz)?$")
    found: dict[str, Path] = {}
    for path in siblings:
        match = pattern.match(path.name)
        # A process that was killed after compressing a file, before deleting it, left both.
        if match and (match[2] or match[1] not in found):
            found[match[1]] = path
    return [(found[key], key) for key in sorted(found)]


def _written_by_others(base: Path, siblings: Iterable[Path]) -> Iterator[Path]:
    pattern = re.compile(rf"{re.escape(base.stem)}\.pid\d+(-\d+)?{re.escape(base.suffix)}$")
    return (path for path in siblings if pattern.match(path.name))


def _siblings(base: Path) -> list[Path]:
    try:
        with os.scandir(base.parent) as entries:
            return [Path(entry.path) for entry in entries if entry.name.startswith(base.stem)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _own_siblings(base: Path) -> list[Path]:
    """Return the files that this user may have written; the others are left alone."""
    return [path for path in _siblings(base) if is_own(path)]


def _readable_siblings(base: Path) -> list[Path]:
    """Return regular files of this user, of root, and of the owners of the log and its folder.

    So other users who can write into the folder cannot add calls to the log.
    """
    owners = {owner_of(path) for path in (base, base.parent)} | {0, current_user()}
    return [path for path in _siblings(base) if is_regular(path) and owner_of(path) in owners]


class LogFile:
    """The file of one process; used by one thread. It raises OSError only.

    A failed write leaves the file unchanged; the next write opens it again.
    """

    def __init__(
        self,
        base: Path,
        *,
        max_size: int,
        max_age: float,
        keep: int,
        header_line: Callable[[], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`header_line` returns the first line of each file, `clock` seconds since the epoch."""
        self.base = base
        self._max_size = max_size
        self._max_age = max_age
        self._keep = keep
        self._header_line = header_line
        self._clock = clock
        self._path = base
        self._descriptor: int | None = None
        self._size = 0
        self._empty_size = 0
        self._began = 0.0
        # A killed process may have left uncompressed files.
        self._is_untidy = True
        self._has_warned = False

    def append(self, lines: bytes) -> None:
        """Write whole lines to the end."""
        if self._descriptor is not None and self._is_replaced():
            self.close()
        if self._descriptor is None:
            self._open()
        if self._size > self._empty_size and self._is_due(self._size + len(lines), self._began):
            self._rotate()
        self._write(lines)

    def tidy_up(self) -> int:
        """Compress archived files of any process; delete old ones, and return how many.

        This takes long, so it is separate from `append`.
        """
        if not self._is_untidy:
            return 0
        self._is_untidy = False
        deleted = sum(map(_is_deleted, list(self._superfluous())))
        for path, _ in _archived(self.base, _own_siblings(self.base)):
            if path.suffix != ".gz":
                _compress(path)
        return deleted

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    # --- one file -------------------------------------------------------------------------

    def _write(self, lines: bytes) -> None:
        descriptor, rest = self._descriptor, memoryview(lines)
        assert descriptor is not None  # noqa: S101 - both callers have opened it
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            self.close()
            raise
        self._size += len(lines)

    def _is_replaced(self) -> bool:
        """Whether the file was moved or deleted, so that lines written to it would be lost."""
        assert self._descriptor is not None  # noqa: S101
        return not _is_same(self._descriptor, self._path)

    def _is_due(self, size: int, began: float) -> bool:
        return size > self._max_size or self._clock() - began > self._max_age

    def _open(self) -> None:
        make_folder(self.base.parent)
        self._archive_orphans()
        self._descriptor, self._path = self._own()
        self._size = os.fstat(self._descriptor).st_size
        self._began = _began(self._descriptor) or self._clock()
        was_empty = not self._size
        is_torn = not was_empty and _read_at(self._descriptor, self._size - 1, 1) != b"\n"
        self._write((b"\n" if is_torn else b"") + self._header_line())
        self._empty_size = self._size if was_empty else 0

    def _own(self) -> tuple[int, Path]:
        """Open the log's own file, or that of a process that has ended, or a new one."""
        try:
            if (descriptor := _open_locked(self.base)) is not None:
                return descriptor, self.base
        except NotOwnError as error:
            opened = self._own_beside()
            self._warn_of_other_name(error, opened[1])
            return opened
        return self._own_beside()

    def _own_beside(self) -> tuple[int, Path]:
        for path in sorted(_written_by_others(self.base, _own_siblings(self.base))):
            if (descriptor := _open_orphan(path)) is not None:
                return descriptor, path
        for attempt in count(1):
            own = f"pid{os.getpid()}" if attempt == 1 else f"pid{os.getpid()}-{attempt}"
            path = self.base.with_name(f"{self.base.stem}.{own}{self.base.suffix}")
            with suppress(NotOwnError):
                if (descriptor := _open_locked(path)) is not None:
                    return descriptor, path
        raise AssertionError  # pragma: no cover - the numbers do not end

    def _warn_of_other_name(self, error: OSError, path: Path) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the replay log %s is %s: its lines go to %s",
                self.base,
                error.strerror,
                path,
            )

    # --- many files -----------------------------------------------------------------------

    def _rotate(self) -> None:
        if sys.platform == "win32":
            # Windows cannot rename an open file.
            self.close()
        # The lock is held until the file has its final name, so that no process writes into it.
        descriptor, self._descriptor = self._descriptor, None
        try:
            self._archive(self._path)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        self._open()

    def _archive(self, path: Path) -> None:
        """Give a full or old file its final name."""
        now = self._clock()
        # Two files may be archived within one tick of the clock.
        while any(map(os.path.lexists, _archive_names(self.base, now))):
            now += 1e-6
        path.rename(_archive_names(self.base, now)[0])
        self._is_untidy = True

    def _archive_orphans(self) -> None:
        """Archive the full and old files of processes that no longer exist."""
        for path in list(_written_by_others(self.base, _own_siblings(self.base))):
            descriptor = _open_orphan(path)
            if descriptor is None:
                continue
            try:
                size, began = os.fstat(descriptor).st_size, _began(descriptor)
                if began is None or not self._is_due(size, began):
                    continue
                if sys.platform == "win32":
                    os.close(descriptor)
                    descriptor = None
                self._archive(path)
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    def _superfluous(self) -> Iterator[Path]:
        """Yield the archived files that are not kept.

        A file is deleted only if at least `keep` newer ones exist, and either these are as large as
        `keep` full files together, or the file was archived `keep` maximum ages ago. Many processes
        archive many small files with recent calls, which must not be deleted early.
        """
        newer = 0.0
        # A file name with a future time says nothing about the age of the others.
        latest = _time_in_names(self._clock() + _TOLERANCE)
        archived = [
            (path, at)
            for path, at in _archived(self.base, _own_siblings(self.base))
            if at <= latest
        ]
        oldest = _time_in_names(max(0.0, self._clock() - self._keep * self._max_age))
        for number, (path, archived_at) in enumerate(reversed(archived)):
            if number >= self._keep and (newer >= self._keep or archived_at < oldest):
                yield path
            size = _size_before_compression(path)
            newer += 1.0 if size >= self._max_size * _FULL else size / self._max_size


def _archive_names(base: Path, now: float) -> tuple[Path, Path]:
    """Return the names of an archived file, plain and compressed."""
    name = f"{base.stem}.{_time_in_names(now)}-{os.getpid()}{base.suffix}"
    return base.with_name(name), base.with_name(f"{name}.gz")


def _time_in_names(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S%f}Z"


def _size_before_compression(path: Path) -> int:
    """Return the bytes that an archived file had; 0 if it cannot be read any more."""
    try:
        descriptor = open_own(path)
    except OSError:
        return 0
    try:
        size = os.fstat(descriptor).st_size
        if path.suffix != ".gz":
            return size
        # The end of a gzip is the size modulo 2**32.
        return max(size, int.from_bytes(_read_at(descriptor, max(size - 4, 0), 4), "little"))
    finally:
        os.close(descriptor)


def _is_deleted(path: Path) -> bool:
    """Delete a file; False if another process has, or if that is not allowed."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.warning("cannot delete an old file of the replay log (%s)", error)
        return False
    return True


def _open_orphan(path: Path) -> int | None:
    """Open and lock the file of another process; None if it is in use, or not ours."""
    # A file that cannot be opened must not prevent this process from writing to another one.
    with suppress(OSError):
        return _open_locked(path)
    return None


def _open_locked(path: Path) -> int | None:
    """Open a file for appending and lock it; None if another process has the lock."""
    while True:
        descriptor = open_or_create(path)
        try:
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            if _is_same(descriptor, path):
                _check_ours(descriptor, path)
                _make_private(descriptor)
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        # Its owner renamed it between opening and locking.
        os.close(descriptor)


def _check_ours(descriptor: int, path: Path) -> None:
    """Raise FileExistsError for a file that is not a replay log."""
    found = _read_at(descriptor, 0, len(_BEGINNING))
    if not _BEGINNING.startswith(_VERSION.sub(b"#", found, count=1)):
        raise FileExistsError(errno.EEXIST, "not a replay log, so it is not written to", str(path))


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - Windows only

            os.lseek(descriptor, _FAR_BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _make_private(descriptor: int) -> None:
    if sys.platform != "win32" and os.fstat(descriptor).st_mode & 0o077:
        os.fchmod(descriptor, _PRIVATE)


def _read_at(descriptor: int, position: int, size: int) -> bytes:
    """Read a few bytes; lines are appended to the end wherever the position is."""
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, size)


def _began(descriptor: int) -> float | None:
    """Return the time in the first line, in seconds since the epoch."""
    first, _, _ = _read_at(descriptor, 0, 4096).partition(b"\n")
    match = re.search(rb'"at":"([^"]{1,40})"', first)
    try:
        return datetime.fromisoformat(match[1].decode()).timestamp() if match else None
    except (ValueError, OverflowError):
        return None


def _compress(path: Path) -> None:
    """Replace a file by its gzip atomically; if the disk has no room for both, keep the file."""
    part = path.with_name(f"{path.name}.gz.part")
    try:
        with os.fdopen(open_own(path), "rb+") as source:
            # Only one process compresses it.
            if not _lock(source.fileno()) or not _is_same(source.fileno(), path):
                return
            # A killed process may have left one.
            part.unlink(missing_ok=True)
            with (
                os.fdopen(create(part), "wb") as target,
                gzip.open(target, "wb", compresslevel=6) as packer,
            ):
                source.seek(0)
                shutil.copyfileobj(source, packer, _COPY)
            part.replace(path.with_name(f"{path.name}.gz"))
    except FileNotFoundError:
        # Another process has deleted it.
        return
    except OSError as error:
        _log.warning("the replay log's %s stays uncompressed (%s)", path, error)
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return
    path.unlink(missing_ok=True)
