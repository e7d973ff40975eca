"""Install the servers that the tests in this folder run against: Ollama with its engine, Jaeger and Prometheus.

    python tests/real/install.py [ollama] [jaeger] [prometheus]

They go into the folder named by OLLAMA_OTEL_TEST_SERVERS, or else into the user's cache folder.
What is there already is left alone; what was only half installed is done again.
The Ollama server is built by Go and its engine, llama.cpp, comes out of a Python wheel, so nothing needs root.
For Linux and macOS; standard library only, because it runs before anything else is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

OLLAMA = "0.33.0"
ENGINE = "2026.8.10566"
JAEGER = "1.76.0"
PROMETHEUS = "0.311.0"
"""The Go module's version of Prometheus 3.11.0."""

ENGINE_SCRIPTS = Path(__file__).with_name("engine")

Say = Callable[[str], None]


class InstallError(Exception):
    """Something is missing, or a step failed; the message says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One server, in a folder of its own."""

    name: str
    versions: dict[str, str]
    """What the stamp must say for the folder to count as installed."""
    build: Callable[[Path, Say], None]
    """Fills an empty folder; the server ends up as `bin/<name>`."""
    tools: tuple[str, ...] = ()
    """Further programs that end up beside it."""
    needs: tuple[str, ...] = ()
    """Other files without which the server is useless, such as the engine's Python, which an upgrade may take away."""

    @property
    def folder(self) -> Path:
        return servers_folder() / self.name

    @property
    def binary(self) -> Path:
        return self.folder / "bin" / self.name

    @property
    def stamp(self) -> Path:
        return self.folder / "stamp.json"

    def is_installed(self) -> bool:
        """Whether the last step, writing the stamp, was reached for these versions."""
        try:
            stamped = json.loads(self.stamp.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        tools = (self.binary.with_name(name) for name in self.tools)
        needed = (self.binary, *tools, *(self.folder / name for name in self.needs))
        return bool(stamped == self.versions) and all(path.exists() for path in needed)


def servers_folder() -> Path:
    """Where the servers are kept, outside any checkout."""
    chosen = os.environ.get("OLLAMA_OTEL_TEST_SERVERS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ollama_otel" / "servers"


def find_server(name: str) -> Path | None:
    """The program to start, a server or a tool of one, or None when it is not installed."""
    if name == "ollama" and (on_path := _ollama_on_path()):
        return on_path
    component = component_of(name)
    return component.binary.with_name(name) if component.is_installed() else None


def component_of(program: str) -> Component:
    """What to install to have this program."""
    return next(
        component
        for component in COMPONENTS.values()
        if program in (component.name, *component.tools)
    )


def install(name: str, say: Say) -> None:
    """Make sure that a server is installed."""
    component = COMPONENTS[name]
    with _only_one_installer(say):
        if found := find_server(name):
            say(f"{name} is installed: {found}")
            return
        shutil.rmtree(component.folder, ignore_errors=True)
        component.folder.mkdir(parents=True)
        component.build(component.folder, say)
        component.stamp.write_text(json.dumps(component.versions))
    say(f"{name} is ready: {component.binary}")


def _ollama_on_path() -> Path | None:
    """An `ollama` on the PATH, if it is the right version and has its engine."""
    found = shutil.which("ollama")
    if found is None:
        return None
    binary = Path(found).resolve()
    engine_folders = (binary.parent.parent / "lib" / "ollama", binary.parent)
    if not any((folder / "llama-server").exists() for folder in engine_folders):
        return None
    # Nothing listens on port 1, so the version is the program's own and not that of a server it finds.
    said = subprocess.run(
        [binary, "--version"],
        env={**os.environ, "OLLAMA_HOST": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    version = re.search(r"version is (\S+)", said.stdout + said.stderr)
    return binary if version and version[1] == OLLAMA else None


def _build_ollama(folder: Path, say: Say) -> None:
    say(f"ollama: building the server {OLLAMA} (about a minute)")
    # Without the flag the server calls itself 0.0.0.
    flags = f"-s -w -X=github.com/ollama/ollama/version.Version={OLLAMA}"
    module = f"github.com/ollama/ollama@v{OLLAMA}"
    _run([_go(), "install", "-ldflags", flags, module], folder, GOBIN=str(folder / "bin"))

    say(f"ollama: installing the engine, xllamacpp {ENGINE}")
    engine = folder / "engine"
    _run([sys.executable, "-m", "venv", str(engine)], folder)
    python = engine / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--only-binary=:all:", f"xllamacpp=={ENGINE}"], folder)

    # Ollama looks for its engine in `../lib/ollama`, seen from its own folder.
    library = folder / "lib" / "ollama"
    library.mkdir(parents=True)
    for script in sorted(ENGINE_SCRIPTS.iterdir()):
        _, _, body = script.read_text().partition("\n")
        installed = library / script.name
        installed.write_text(f"#!{python}\n{body}")
        installed.chmod(0o755)


def _build_jaeger(folder: Path, say: Say) -> None:
    say(f"jaeger: building {JAEGER} (up to ten minutes)")
    _build_commands(folder, f"github.com/jaegertracing/jaeger@v{JAEGER}", "jaeger")


def _build_prometheus(folder: Path, say: Say) -> None:
    say(f"prometheus: building {PROMETHEUS} (up to ten minutes)")
    module = f"github.com/prometheus/prometheus@v{PROMETHEUS}"
    _build_commands(folder, module, "prometheus", "promtool")


def _build_commands(folder: Path, module: str, *commands: str) -> None:
    """Build some of the programs that a Go module has in its `cmd` folder."""
    build = folder / "build"
    build.mkdir()
    _run([_go(), "mod", "init", "servers"], build)
    download = json.loads(_run([_go(), "mod", "download", "-json", module], build))
    # The module's own checksums save looking up those of some hundred others, one by one.
    (build / "go.sum").write_bytes((Path(download["Dir"]) / "go.sum").read_bytes())
    # `go install …@version` refuses a module with replace lines, so they become tools of an empty one.
    path, _, version = module.partition("@")
    tools = [f"{path}/cmd/{command}@{version}" for command in commands]
    _run([_go(), "get", "-tool", *tools], build)
    _run([_go(), "install", "tool"], build, GOBIN=str(folder / "bin"))
    shutil.rmtree(build)


def _digest_of_scripts() -> str:
    digest = hashlib.sha256()
    for script in sorted(ENGINE_SCRIPTS.iterdir()):
        digest.update(script.read_bytes())
    return digest.hexdigest()


COMPONENTS = {
    component.name: component
    for component in (
        Component(
            name="ollama",
            versions={"ollama": OLLAMA, "xllamacpp": ENGINE, "scripts": _digest_of_scripts()},
            build=_build_ollama,
            needs=("engine/bin/python",),
        ),
        Component(
            name="jaeger",
            versions={"jaeger": JAEGER},
            build=_build_jaeger,
        ),
        Component(
            name="prometheus",
            versions={"prometheus": PROMETHEUS},
            build=_build_prometheus,
            tools=("promtool",),
        ),
    )
}


def _go() -> str:
    found = shutil.which("go")
    if found is None:
        message = "`go` was not found: install Go 1.24 or newer (https://go.dev/dl) and put it on the PATH."
        raise InstallError(message)
    return found


def _run(command: list[str], folder: Path, **environment: str) -> str:
    """Run one step and give back what it printed; on failure show how it ended."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        ending = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        message = f"`{' '.join(command)}` failed with status {done.returncode}:\n{ending}"
        raise InstallError(message)
    return done.stdout


@contextlib.contextmanager
def _only_one_installer(say: Say) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it if this process dies."""
    servers_folder().mkdir(parents=True, exist_ok=True)
    with (servers_folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installer to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(names: list[str]) -> int:
    """Install the named servers, or all of them."""
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        print(f"install.py: expected {' or '.join(COMPONENTS)}, not {unknown[0]}", file=sys.stderr)
        return 2
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {line}", flush=True)

    try:
        for name in names or COMPONENTS:
            install(name, say)
    except InstallError as error:
        print(f"install.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
