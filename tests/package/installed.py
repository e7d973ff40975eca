"""Tries the package as it is installed, without extras: `python -P installed.py CHECKOUT`.

It needs the standard library and the package only, and ends with an AssertionError for the first
thing that is not as it should be.
"""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import ollama_otel

INSTALLED = Path(ollama_otel.__file__).parent
NEEDS_PYTEST = "ollama_otel.pytest_plugin"


def files_of(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def expected_files(checkout: Path) -> Iterator[str]:
    """The files of the package, and the boards and rules that are put into it."""
    yield from files_of(checkout / "ollama_otel")
    dashboards = checkout / "dashboards"
    for name in ("README.md", "RUNBOOK.md", "compose.yaml"):
        yield f"_monitoring/files/{name}"
    for name in ("collector", "grafana", "prometheus", "rules"):
        yield from (f"_monitoring/files/{name}/{file}" for file in files_of(dashboards / name))


def run(*command: str, folder: Path) -> str:
    """Run an installed command where no server of Ollama is, and return what it printed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=folder,
        env=os.environ | {"OLLAMA_HOST": "127.0.0.1:1", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def check_files(checkout: Path) -> None:
    assert checkout not in INSTALLED.parents, f"{INSTALLED} is the checkout"
    missing = set(expected_files(checkout)) ^ files_of(INSTALLED)
    assert not missing, f"either missing or not expected: {sorted(missing)}"
    assert (INSTALLED / "py.typed").exists()


def check_modules() -> None:
    modules = {
        module.name
        for module in pkgutil.walk_packages(ollama_otel.__path__, "ollama_otel.")
        if "._" not in module.name and module.name != NEEDS_PYTEST
    }
    assert {"ollama_otel.client", "ollama_otel.analysis", "ollama_otel.replay"} <= modules
    for name in sorted(modules):
        public = import_module(name)
        # Names of an extra are imported on use, and say which one they need.
        assert public.__all__, name
    for name in ollama_otel.__all__:
        assert getattr(ollama_otel, name) is not None


def check_metadata() -> None:
    metadata = distribution("ollama_otel")
    found = {(each.group, each.name) for each in metadata.entry_points}
    assert found == {
        ("console_scripts", "ollama-otel"),
        ("opentelemetry_instrumentor", "ollama_otel"),
        ("pytest11", "ollama_otel"),
    }
    for each in metadata.entry_points:
        if each.group != "pytest11":
            each.load()
    assert ollama_otel.__version__ == metadata.version


def check_commands(folder: Path) -> None:
    assert run("ollama-otel", "--version", folder=folder).strip() == (
        f"ollama-otel {ollama_otel.__version__}"
    )
    printed = run("ollama-otel", "demo", "--no-color", folder=folder)
    assert "gen_ai.client.operation.duration" in printed
    assert "No report on these calls" in printed
    run("ollama-otel", "dashboards", "export", "--out", "boards", folder=folder)
    exported = files_of(folder / "boards")
    assert any(name.endswith(".json") for name in exported), exported
    assert "compose.yaml" in exported, exported


def main() -> None:
    check_files(Path(sys.argv[1]))
    check_modules()
    check_metadata()
    with TemporaryDirectory() as folder:
        check_commands(Path(folder))
    print(f"{INSTALLED}: files, modules, entry points and commands are there")


if __name__ == "__main__":
    main()
