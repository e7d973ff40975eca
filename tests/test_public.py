"""What is public is visible: `__all__` is exact, sorted, and all there is."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

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
    "ollama_otel.settings": {"did_you_mean"},
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


def test_what_the_package_offers_is_there() -> None:
    assert set(ollama_otel.__all__) <= set(dir(ollama_otel))
    assert [name for name in ollama_otel.__all__ if getattr(ollama_otel, name) is None] == []


def test_what_the_package_does_not_offer_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'ollama_otel' has no attribute 'nonsense'"):
        _ = ollama_otel.nonsense


def test_the_version_is_the_installed_one() -> None:
    assert ollama_otel.__version__.count(".") == 2


def names_of(module: str) -> list[str]:
    return list(getattr(import_module(module), "__all__", []))


def test_no_list_of_names_has_doubles_or_names_that_are_not_there() -> None:
    assert [name for name in MODULES if len(set(names_of(name))) < len(names_of(name))] == []
    assert [
        f"{module}.{name}"
        for module in MODULES
        for name in names_of(module)
        if not hasattr(import_module(module), name)
    ] == []


def test_every_public_module_has_a_sorted_list() -> None:
    assert [name for name in PUBLIC if not names_of(name)] == []
    # The drop-in keeps the order of the official package.
    ours = [name for name in PUBLIC if name != "ollama_otel.ollama"]
    assert [name for name in ours if names_of(name) != sorted(names_of(name))] == []


def test_every_public_module_offers_what_it_defines() -> None:
    def forgotten(module: str) -> set[str]:
        public = {name for name in defined(MODULES[module]) if not name.startswith("_")}
        return set(names_of(module)) ^ (public - SHARED.get(module, set()))

    faults = {name: forgotten(name) for name in PUBLIC if name not in FACADES}
    assert {name: names for name, names in faults.items() if names} == {}


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
