"""Node's packages and the bundled page, in the user's cache folder, and the programs that drawing needs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.real.install import servers_folder

PAGE = Path(__file__).with_name("page")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OLDEST_NODE = 18
_PAGE_LASTS = 7 * 86400
"""Seconds."""


class CannotDrawError(Exception):
    """Something is missing that drawing needs; the message says what to install."""


def browser() -> Path:
    """Return Chromium: the program that CHROMIUM names, or one on the PATH."""
    names = (os.environ.get("CHROMIUM"), *_BROWSERS)
    found = next(filter(None, (shutil.which(name) for name in names if name)), None)
    if found is None:
        raise CannotDrawError(
            "boards are drawn by Chromium, which was not found: apt-get install chromium, or set CHROMIUM"
        )
    return Path(found)


def packages() -> Path:
    """Install Node's packages unless they are there, and return their `node_modules`.

    They are kept for each lock file; no package runs a script of its own.
    """
    lock = PAGE / "package-lock.json"
    folder = _cache() / _digest(lock, PAGE / "package.json")
    done = folder / "installed"
    with _one_at_a_time():
        if not done.exists():
            npm = _program("npm")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for file in (lock, PAGE / "package.json"):
                shutil.copy(file, folder)
            _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
            done.touch()
    return folder / "node_modules"


def bundle() -> Path:
    """Return a folder with `page.js` and `page.css`, bundled from the sources of the page."""
    modules = packages()
    sources = sorted(path for path in PAGE.rglob("*") if path.suffix in {".mjs", ".js", ".jsx"})
    folder = modules.parent / "pages" / _digest(*sources)
    with _one_at_a_time():
        if not (folder / "page.js").exists():
            _remove_old(folder.parent)
            unfinished = folder.with_suffix(".unfinished")
            _run([_node(), str(PAGE / "bundle.mjs"), str(modules), f"{unfinished}/page.js"], PAGE)
            unfinished.rename(folder)
    return folder


def _remove_old(pages: Path) -> None:
    """Remove pages of sources that have changed; other checkouts may use younger ones."""
    for page in pages.glob("*"):
        if time.time() - page.stat().st_mtime > _PAGE_LASTS:
            shutil.rmtree(page)


def _node() -> str:
    node = _program("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.lstrip("v").split(".")[0]) < _OLDEST_NODE:
        raise CannotDrawError(
            f"boards are bundled by Node {_OLDEST_NODE} or later, this is {said.strip()}"
        )
    return node


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotDrawError(
            f"boards are drawn with packages of Node, and {name} was not found: apt-get install nodejs npm"
        )
    return found


def _cache() -> Path:
    return servers_folder().with_name("drawing")


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:20]


class _one_at_a_time:  # noqa: N801 - used like a function
    """Hold the cache folder's lock; the system releases it if this process dies."""

    def __enter__(self) -> None:
        _cache().mkdir(parents=True, exist_ok=True)
        self._file = (_cache() / "lock").open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        ending = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise CannotDrawError(f"`{' '.join(command)}` failed:\n{ending}")


if __name__ == "__main__":
    try:
        print(bundle())
    except CannotDrawError as error:
        sys.exit(f"installation.py: {error}")
