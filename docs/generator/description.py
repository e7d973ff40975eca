"""The text of an entry: signature, docstring, bases, fields and methods."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Final, is_typeddict

from msgspec import Struct

from generator.entries import Entry, described, linked
from generator.source import (
    Definition,
    Function,
    decorators,
    field_default,
    in_package,
    members_of,
    shown_annotation,
    signature,
)

__all__ = ["entry_text", "joined", "variables_of"]

_PROTOCOLS: Final = {
    "__enter__": "a context manager",
    "__aenter__": "an async context manager",
    "__iter__": "iterable",
    "__aiter__": "async iterable",
    "__call__": "callable",
}
"""What an object of a class is, by the method that makes it so."""
_SHOWN_DECORATORS: Final = (
    "classmethod",
    "staticmethod",
    "contextmanager",
    "asynccontextmanager",
    "pytest.fixture",
)
_NO_BASES: Final = {"object", "tuple", "dict", "Struct", "Protocol", "Generic", "BaseModel"}


def entry_text(entry: Entry) -> str:
    """Return the heading of an entry and all that follows."""
    if isinstance(entry.at.node, ast.ClassDef):
        made = _constructor(entry)
        parts = [
            "" if made is None else _code(_call(entry.name, made)),
            linked(entry.text, entry.module),
            "" if made is None else linked(made.text, entry.module),
            _bases(entry.value),
            _abilities(entry.value),
            _fields(entry),
            _methods(entry),
        ]
    elif isinstance(entry.at.node, Function):
        parts = [_function([entry.at], entry.module)]
    else:
        parts = [_assignment(entry), linked(entry.text, entry.module)]
    return joined(f"### {entry.heading}", *parts)


def joined(*parts: str) -> str:
    """Join paragraphs, without the empty ones."""
    return "".join(f"{part}\n\n" for each in parts if (part := each.strip("\n")))


def _function(found: list[Definition], module: str, *, is_method: bool = False) -> str:
    """Write a function, each of its overloads as a signature."""
    overloads = [each for each in found if "overload" in _decorators(each)]
    lines = [signature(each.name, each, is_method=is_method) for each in overloads or found[-1:]]
    shown = [f"@{each}" for each in _SHOWN_DECORATORS if each in _decorators(found[-1])]
    return joined(_code("\n".join([*shown, *lines])), linked(found[-1].text, module))


def _decorators(at: Definition) -> set[str]:
    assert isinstance(at.node, Function)
    return decorators(at.node)


def _code(text: str) -> str:
    # Not `python`: blocks in that language are programs, which run in tests.
    return f"```py\n{text}\n```"


def _assignment(entry: Entry) -> str:
    if entry.heading.startswith("type ") and entry.at.value is not None:
        return _code(entry.at.source)
    annotation = entry.at.annotation
    return "" if annotation is None else _code(f"{entry.name}: {shown_annotation(annotation)}")


def _constructor(entry: Entry) -> Definition | None:
    for base in filter(in_package, entry.value.__mro__):
        if (made := members_of(base).get("__init__")) is not None:
            return made[-1]
    return None


def _call(name: str, made: Definition) -> str:
    return signature(name, made, is_method=True).removeprefix("def ").removesuffix(" -> None")


def _bases(cls: type) -> str:
    names = dict.fromkeys(_base_names(cls))
    return f"Bases: {', '.join(names)}." if names else ""


def _base_names(cls: type) -> Iterator[str]:
    for base in cls.__bases__:
        if not in_package(base):
            if base.__name__ not in _NO_BASES:
                yield _outside_name(base)
        elif (found := described().get((base.__module__, base.__name__))) is not None:
            yield found.link
        else:
            yield from _base_names(base)


def _outside_name(base: type) -> str:
    package = base.__module__.partition("._")[0]
    return f"`{base.__name__}`" if package == "builtins" else f"`{package}.{base.__name__}`"


def _abilities(cls: type) -> str:
    if is_typeddict(cls):
        return "It is a `TypedDict`; each key may be missing."
    if getattr(cls, "_is_protocol", False):
        return "It is a protocol: an object that has these members needs no base class."
    own = {name for base in filter(in_package, cls.__mro__) for name in vars(base)}
    found = [words for method, words in _PROTOCOLS.items() if method in own]
    sentences = [f"It is {' and '.join(found)}."] if found else []
    if issubclass(cls, Struct) or is_dataclass(cls):
        parameters = list(inspect.signature(cls).parameters.values())
        if parameters and all(each.kind is each.KEYWORD_ONLY for each in parameters):
            sentences.append("All arguments are keywords.")
    return " ".join(sentences)


def _fields(entry: Entry) -> str:
    rows = []
    for name, at in variables_of(entry.value).items():
        text = " ".join(linked(at.text, entry.module).split())
        rows.append(
            f"- `{name}{_type_and_default(at, entry.value)}`" + (f"  \n  {text}" if text else "")
        )
    return "\n".join(rows)


def variables_of(cls: type) -> dict[str, Definition]:
    """Return fields, attributes and properties: those of the bases first, then by their order."""
    found: dict[str, Definition] = {}
    for base in filter(in_package, reversed(cls.__mro__)):
        for name, (first, *_) in members_of(base).items():
            is_inner = isinstance(first.node, ast.Assign) and base.__name__.startswith("_")
            if not name.startswith("_") and not is_inner and not _is_method(cls, name):
                text = first.text or (found[name].text if name in found else "")
                found[name] = Definition(first.module, name, first.node, text)
    return found


def _is_method(cls: type, name: str) -> bool:
    value = inspect.getattr_static(cls, name, None)
    return inspect.isfunction(value) or isinstance(value, classmethod | staticmethod)


def _type_and_default(at: Definition, cls: type) -> str:
    annotation = "" if at.annotation is None else f": {shown_annotation(at.annotation)}"
    default = field_default(at, cls)
    return f"{annotation} = {default}" if default else annotation


def _methods(entry: Entry) -> str:
    found: dict[str, list[Definition]] = {}
    for base in filter(in_package, entry.value.__mro__):
        for name, several in members_of(base).items():
            if not name.startswith("_") and _is_method(entry.value, name):
                found.setdefault(name, several)
    parts = (
        joined(f"#### {entry.name}.{name}()", _function(each, entry.module, is_method=True))
        for name, each in found.items()
    )
    return "".join(parts)
