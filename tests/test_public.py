"""What is public is visible: `__all__` is exact, sorted, and all there is."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

import ollama
import pytest

import ollama_otel

PACKAGE = Path(ollama_otel.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "__main__" not in path.name
}
PUBLIC = [name for name in MODULES if not any(part.startswith("_") for part in name.split("."))]
# Re-exports, by their nature.
FACADES = {
    "ollama_otel",
    *(
        "ollama_otel.analysis",
        "ollama_otel.instrumentation",
        "ollama_otel.load",
        "ollama_otel.ollama",
        "ollama_otel.redaction",
        "ollama_otel.replay",
        "ollama_otel.settings",
        "ollama_otel.structured",
        "ollama_otel.streams",
    ),
    *("ollama_otel.residency", "ollama_otel.resilience", "ollama_otel.telemetry"),
    *("ollama_otel.prices", "ollama_otel.testing", "ollama_otel.tokens", "ollama_otel.tools"),
}
# Shared among our own rooms, and not for others.
SHARED = {
    "ollama_otel.client": {"CONNECTION_ERROR_MESSAGE"},
    "ollama_otel.records": {"SECTIONS"},
    "ollama_otel.transport": {
        *("NOTHING_RECORDED", "RECORDED_BY", "REQUEST_BODY", "Shell", "Shells"),
        *("shells_for", "watched_body"),
        *("abandon", "disconnect", "is_on", "is_patched", "record_as", "recorded_by", "turn_off"),
    },
}


def defined(path: Path) -> set[str]:
    """Names that a module's own statements give, without what it imports."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_the_package_offers_exactly_this() -> None:
    assert ollama_otel.__all__ == [
        "AsyncClient",
        "AsyncTransport",
        "CallFollower",
        "CallRecord",
        "CallStart",
        "Client",
        "ClientDefaults",
        "Enricher",
        "Instrumentation",
        "InstrumentationError",
        "InstrumentationOptions",
        "MissingExtraError",
        "Observer",
        "OllamaInstrumentor",
        "OllamaOtelError",
        "Settings",
        "SettingsError",
        "Telemetry",
        "Transport",
        "__version__",
        "build_instrumentation",
        "call_context",
        "configure",
        "instrument_client",
        "ollama",
        "uninstrument_client",
    ]


@pytest.mark.parametrize("name", ollama_otel.__all__)
def test_what_the_package_offers_is_there(name: str) -> None:
    assert getattr(ollama_otel, name) is not None
    assert name in dir(ollama_otel)


def test_what_the_package_does_not_offer_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'ollama_otel' has no attribute 'nonsense'"):
        _ = ollama_otel.nonsense


def test_the_version_is_the_installed_one() -> None:
    assert ollama_otel.__version__.count(".") == 2


@pytest.mark.parametrize("name", MODULES)
def test_every_list_of_names_is_sorted_and_without_doubles(name: str) -> None:
    module: ModuleType = import_module(name)
    names = list(getattr(module, "__all__", []))
    assert sorted(set(names)) == sorted(names)
    if name in PUBLIC and name != "ollama_otel.ollama":
        assert names == sorted(names)
    for offered in names:
        assert hasattr(module, offered), offered


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in FACADES])
def test_a_public_module_offers_what_it_defines(name: str) -> None:
    module = import_module(name)
    public = {n for n in defined(MODULES[name]) if not n.startswith("_")}
    assert set(module.__all__) == public - SHARED.get(name, set())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_has_its_list(name: str) -> None:
    assert import_module(name).__all__


def test_the_drop_in_offers_all_that_the_official_package_does() -> None:
    official = set(ollama.__all__)
    functions = {
        name
        for name, value in vars(ollama).items()
        if getattr(value, "__self__", None) is ollama._client
    }
    assert len(functions) >= 14
    assert set(ollama_otel.ollama.__all__) == official
    for name in official | functions:
        assert getattr(ollama_otel.ollama, name) is not None
