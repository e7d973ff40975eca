"""Files of this user: created exclusively, and opened only if no other user can have created them.

Others may be able to write into a log's folder. They could put a link there, so that a file
elsewhere is written, or a file of their own, so that they can read what is written to it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

__all__ = [
    "NotOwnError",
    "create",
    "current_user",
    "is_own",
    "is_regular",
    "make_folder",
    "open_or_create",
    "open_own",
    "owner_of",
    "replace_file",
]

_PRIVATE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_SHARED: Final = 0o666
"""The user's umask decides."""
_FLAGS: Final = (
    os.O_RDWR
    | os.O_APPEND
    # Without it, on Windows, links are found by `lstat` only.
    | getattr(os, "O_NOFOLLOW", 0)
    # Opening a pipe must not block.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class NotOwnError(OSError):
    """The name belongs to a link, a pipe, a folder, or a file of another user."""


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, for this user only; raises OSError."""
    for missing in (*reversed(folder.parents), folder):
        if missing.is_dir():
            continue
        try:
            missing.mkdir(mode=_PRIVATE_FOLDER)
        except FileExistsError:
            # Another process may have been faster.
            if not missing.is_dir():
                raise


def create(path: Path, *, mode: int = _PRIVATE) -> int:
    """Create a file and return its descriptor, to read and to append.

    Raises FileExistsError if there is anything with that name, also a link to nothing.
    """
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, mode)


def open_own(path: Path) -> int:
    """Open a file of this user and return its descriptor, to read and to append.

    Raises `NotOwnError` for anything but a regular file of this user, and any other OSError.
    """
    # Before it is opened too: opening a device may have effects.
    found = os.lstat(path)
    _check(found, path)
    descriptor = os.open(path, _FLAGS)
    try:
        opened = os.fstat(descriptor)
        _check(opened, path)
        if not os.path.samestat(found, opened):
            raise NotOwnError(errno.EPERM, "replaced while it was opened", str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_or_create(path: Path) -> int:
    """Open a file of this user, or create it; raises as `open_own`."""
    while True:
        with suppress(FileNotFoundError):
            return open_own(path)
        # Another process may have created it in between.
        with suppress(FileExistsError):
            return create(path)


def is_own(path: Path) -> bool:
    """Whether the path is a regular file of this user; False for a link."""
    try:
        _check(os.lstat(path), path)
    except OSError:
        return False
    return True


def is_regular(path: Path) -> bool:
    """Whether the path is a regular file of any user; False for a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def owner_of(path: Path) -> int | None:
    """Return the user id of a file's owner, 0 on Windows; None if there is no such file."""
    try:
        return path.stat().st_uid
    except OSError:
        return None


def current_user() -> int:
    """Return the user id of this process; 0 on Windows."""
    return 0 if sys.platform == "win32" else os.geteuid()


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file atomically, replacing an existing one; links are not followed.

    Raises OSError.
    """
    half_written = path.with_name(f".{path.name}.{os.getpid()}")
    half_written.unlink(missing_ok=True)
    descriptor = create(half_written, mode=_SHARED)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        half_written.replace(path)
    finally:
        half_written.unlink(missing_ok=True)


def _check(found: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NotOwnError(errno.EPERM, "a symbolic link, which is not followed", str(path))
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        # Only a user's own setting names a device, which has no folder for a temporary file.
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise NotOwnError(errno.EPERM, "not a regular file", str(path))
    if found.st_nlink > 1:
        # Another user may have linked a file of this user here.
        raise NotOwnError(errno.EPERM, "a file with several names (hard links)", str(path))
    if not _is_by_us(found, path):
        raise NotOwnError(errno.EPERM, "a file of another user", str(path))


def _is_by_us(found: os.stat_result, path: Path) -> bool:
    return found.st_uid == current_user() or found.st_uid == _owner_of_new_files(path.parent)


def _owner_of_new_files(folder: Path) -> int | None:
    """Return the owner of new files of this process; network file systems may map users."""
    try:
        with TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return None
