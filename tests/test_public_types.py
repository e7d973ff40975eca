"""Every type of ours that a public signature names has a public name, so that users can write it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TypeVar, get_origin

import pytest

from tests.test_public import MODULES, PUBLIC

Place = tuple[str, str]
"""A module, and a name that it defines."""

# ASGI's own types: frameworks and type checkers have names for them.
WRITTEN_OUT = {("ollama_otel._asgi", name) for name in ("Event", "Receive", "Send")}


@cache
def statements(module: str) -> dict[str, list[ast.stmt]]:
    """Return what gives a module its names: definitions, and imports, those for type checkers too."""
    found: dict[str, list[ast.stmt]] = {}
    body = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    for node in [*body, *(each for top in body if isinstance(top, ast.If) for each in top.body)]:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names = [name]
            case ast.ImportFrom():
                names = [alias.asname or alias.name for alias in node.names]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def place_of(module: str, name: str) -> Place | None:
    """Follow imports to where a name is defined; None if it is a module, or not in our package."""
    for node in statements(module).get(name, []):
        if not isinstance(node, ast.ImportFrom):
            return module, name
        original = next(each.name for each in node.names if name in (each.asname, each.name))
        if node.module in MODULES and f"{node.module}.{original}" not in MODULES:
            return place_of(node.module, original)
    return None


def is_type(place: Place) -> bool:
    value = getattr(import_module(place[0]), place[1])
    is_alias = get_origin(value) is not None
    return (is_alias or isinstance(value, type)) and not isinstance(value, TypeVar)


def signature(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what users see of a definition: annotations, base classes, the value of an alias."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            arguments = [each for each in ast.walk(node.args) if isinstance(each, ast.arg)]
            yield from (each.annotation for each in arguments if each.annotation is not None)
            if node.returns is not None:
                yield node.returns
        case ast.ClassDef():
            yield from node.bases
            for member in node.body:
                if is_public(member):
                    yield from signature(member)
            # What methods keep as `self.name: type = ...`.
            for kept in ast.walk(node):
                if isinstance(kept, ast.AnnAssign) and isinstance(kept.target, ast.Attribute):
                    yield from signature(kept) if is_public(kept) else ()
        case ast.AnnAssign():
            yield node.annotation
        case ast.Assign():
            yield node.value


def is_public(member: ast.stmt) -> bool:
    match member:
        case (
            ast.FunctionDef(name=name)
            | ast.AsyncFunctionDef(name=name)
            | ast.AnnAssign(target=ast.Name(id=name))
            | ast.AnnAssign(target=ast.Attribute(attr=name))
        ):
            return not name.startswith("_") or name.endswith("__")
    return False


def types_named_by(place: Place) -> set[Place]:
    """Return our types in a definition; what a private base class names, its subclass names."""
    module, name = place
    named: set[Place] = set()
    for definition in statements(module).get(name, []):
        bases = definition.bases if isinstance(definition, ast.ClassDef) else []
        for part in signature(definition):
            for node in ast.walk(part):
                found = place_of(module, node.id) if isinstance(node, ast.Name) else None
                if found is None or not is_type(found):
                    continue
                is_mixin = part in bases and found[1].startswith("_")
                named |= types_named_by(found) if is_mixin else {found}
    return named


def exported() -> dict[Place, str]:
    """Return where public names are defined, each with its shortest public name."""
    names = [(module, name) for module in PUBLIC for name in import_module(module).__all__]
    names.sort(key=lambda each: -len(".".join(each)))
    places = {place_of(*each): ".".join(each) for each in names}
    return {place: name for place, name in places.items() if place is not None}


EXPORTED = exported()


@pytest.mark.slow
def test_every_type_in_a_public_signature_has_a_public_name() -> None:
    unnamed = {
        public: types_named_by(place) - EXPORTED.keys() - WRITTEN_OUT
        for place, public in EXPORTED.items()
    }
    assert {public: types for public, types in unnamed.items() if types} == {}


@pytest.mark.parametrize(
    ("public", "expected"),
    [
        pytest.param("ollama_otel.telemetry.configure", "OtlpProtocol", id="parameter"),
        pytest.param("ollama_otel.replay.compare", "Comparison", id="return"),
        pytest.param("ollama_otel.telemetry.Telemetry", "ScrapeEndpoint", id="field"),
        pytest.param("ollama_otel.records.CallRecord", "ModelResidency", id="field-of-a-struct"),
        pytest.param("ollama_otel.replay.ReplayLog", "LoggingObserver", id="base-class"),
        pytest.param("ollama_otel.replay.ReplayLog", "LogStatistics", id="property"),
        pytest.param("ollama_otel.testing.Capture", "Observer", id="attribute"),
        pytest.param("ollama_otel.replay.AsyncPlayer", "RecordedCall", id="private-base-class"),
        pytest.param("ollama_otel.testing.FakeOllama", "FakeTransport", id="method"),
        pytest.param("ollama_otel.residency.Listener", "Event", id="alias"),
        pytest.param("ollama_otel.transport.Transport", "InstrumentationOptions", id="unpacked"),
    ],
)
def test_the_walk_sees_types_in_every_position(public: str, expected: str) -> None:
    module, _, name = public.rpartition(".")
    place = place_of(module, name)
    assert place is not None
    assert expected in {found for _, found in types_named_by(place)}
