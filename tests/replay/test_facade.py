"""Every type that a public signature of the room names can be imported from it, or is public."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import ollama_otel
from ollama_otel import errors, instrumentation, records, redaction, replay

PACKAGE = Path(ollama_otel.__file__).parent
PUBLIC = {
    name
    for room in (replay, records, redaction, errors, instrumentation, ollama_otel)
    for name in room.__all__
}
# What ASGI calls a scope, and the callables that it hands over.
STANDARD = {"Event", "Receive", "Send"}
# An attribute that our own metrics read.
NOT_FOR_CALLERS = {("ReplayLog", "Writer")}


def private_names() -> Iterator[str]:
    """Names, aliases included, that modules share which callers do not see."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if (
            parts[1] in {"replay", "_asgi", "_log", "_exchange", "_wire"}
            and "__init__" not in parts
        ):
            yield from getattr(import_module(".".join(parts)), "__all__", ())


PRIVATE = {*private_names()} - PUBLIC - STANDARD


def annotations_of(thing: Any) -> Iterator[str]:
    """The annotations of a function, or of a class with its fields and public methods."""
    yield from map(str, getattr(thing, "__annotations__", {}).values())
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if not name.startswith("_") or name in {"__init__", "__call__", "__enter__"}:
                function = getattr(member, "fget", None) or getattr(member, "func", None) or member
                function = getattr(function, "__func__", function)
                yield from map(str, getattr(function, "__annotations__", {}).values())


@pytest.mark.parametrize("name", replay.__all__)
def test_every_type_in_a_public_signature_is_public(name: str) -> None:
    used = {
        word
        for annotation in annotations_of(getattr(replay, name))
        for word in re.findall(r"\w+", annotation)
    }
    assert {word for word in used & PRIVATE if (name, word) not in NOT_FOR_CALLERS} == set()


def test_the_facade_lists_what_it_gives() -> None:
    assert set(replay.__all__) == set(replay._ROOM_OF)
    assert all(getattr(replay, name) is not None for name in replay.__all__)
