"""Imports go downwards, and the heart knows neither httpx nor OpenTelemetry."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import ollama_otel

PACKAGE = Path(ollama_otel.__file__).parent

# From the ground up; a module may import from its own layer and from those before it.
LAYERS = [
    ("errors", "_attempt", "_bounds", "_display", "_frozen", "_hidden"),
    ("settings", "context", "redaction", "_admission", "_asgi", "_guard", "_process", "_relay"),
    ("records", "_names"),
    ("_wire", "_facts"),
    ("_resilience",),
    ("_exchange",),
    ("_log", "residency"),
    ("_tokens", "_prices", "prices"),
    ("_enrich",),
    ("_telemetry",),
    ("_auth_rounds", "transport", "instrumentation", "telemetry"),
    ("_client_instrumentation", "_counting", "tokens"),
    ("_structured", "structured"),
    ("_streams", "streams"),
    ("_resilient_transport", "resilience", "_client_defaults"),
    ("client",),
    ("_agent", "tools"),
    ("ollama", "instrumentor", "replay", "analysis", "_load", "load", "_monitoring", "_top"),
    ("testing", "pytest_plugin"),
    ("__init__", "_cli", "__main__"),
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "ollama_otel":
                yield from (f"ollama_otel.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def forbidden(paths: Iterable[Path], is_allowed: Callable[[Path, str], bool]) -> list[str]:
    """The imports of these files that are not allowed, as `file: module`."""
    return [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in paths
        for name in imports(path)
        if not is_allowed(path, name)
    ]


def test_every_room_has_its_place_among_the_layers() -> None:
    assert {room_of(path) for path in FILES} == set(LAYER)


def test_imports_go_downwards() -> None:
    def is_below(path: Path, name: str) -> bool:
        package, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        is_ours = package == "ollama_otel" and room in LAYER
        return not is_ours or LAYER[room] <= LAYER[room_of(path)]

    assert forbidden(FILES, is_below) == []


def test_the_wire_knows_the_standard_library_and_a_json_reader() -> None:
    ours = {"errors", "records", "_frozen", "_bounds", "_wire"}

    def is_known(_: Path, name: str) -> bool:
        package, _, rest = name.partition(".")
        if package == "ollama_otel":
            return rest.partition(".")[0] in ours
        return package in {*sys.stdlib_module_names, "msgspec", "pydantic_core"}

    assert forbidden((PACKAGE / "_wire").rglob("*.py"), is_known) == []


def test_the_heart_knows_neither_httpx_nor_opentelemetry() -> None:
    heart = [
        *(PACKAGE / "_exchange").rglob("*.py"),
        *(PACKAGE / "_facts").rglob("*.py"),
        *(
            PACKAGE / f"{name}.py"
            for name in ("records", "_frozen", "_asgi", "_guard", "_process", "context")
        ),
    ]
    known = {*sys.stdlib_module_names, "msgspec", "ollama_otel"}
    assert forbidden(heart, lambda _, name: name.partition(".")[0] in known) == []


@pytest.mark.processes
@pytest.mark.parametrize("module", ["_exchange.exchange", "_wire.endpoints", "records", "_facts"])
def test_the_heart_loads_neither_httpx_nor_opentelemetry(module: str) -> None:
    script = (
        f"import ollama_otel.{module}, sys\n"
        "print(*({name.partition('.')[0] for name in sys.modules}"
        " & {'httpx', 'ollama', 'opentelemetry', 'pydantic', 'structlog'}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == []


def test_only_the_settings_and_the_set_up_read_the_environment() -> None:
    readers = {
        path.name
        for path in FILES
        if any(
            isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
        and room_of(path) not in {"_cli", "testing", "pytest_plugin"}
    }
    assert readers == {"settings.py", "setup.py", "exporters.py", "scrape.py", "first_call.py"}
