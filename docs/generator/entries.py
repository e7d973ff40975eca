"""The public names: where each is described, and links to it."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

import ollama_otel
from generator.source import Definition, Function, definition

__all__ = ["GROUPS", "Entry", "described", "entries", "linked", "page_of", "public_modules", "slug"]

_FUNCTIONS, _CLASSES, _ERRORS = "Functions", "Classes", "Errors"
_TYPES, _HOOKS = "Types and constants", "Hooks of pytest"
GROUPS: Final = (_FUNCTIONS, _CLASSES, _ERRORS, _TYPES, _HOOKS)


class Entry(NamedTuple):
    """A public name on the page that describes it."""

    module: str
    name: str
    at: Definition

    @property
    def value(self) -> Any:
        """The object itself."""
        return getattr(import_module(self.module), self.name)

    @property
    def group(self) -> str:
        """The part of the page that has it."""
        if isinstance(self.at.node, ast.ClassDef):
            return _ERRORS if issubclass(self.value, BaseException) else _CLASSES
        if isinstance(self.at.node, Function) or getattr(self.value, "__name__", "") == self.name:
            return _HOOKS if self.name.startswith("pytest_") else _FUNCTIONS
        return _TYPES

    @property
    def text(self) -> str:
        """Its docstring; of a function that a call made, the one that the call gave it."""
        made_by_call = self.group == _FUNCTIONS and not self.at.text
        return inspect.getdoc(self.value) or "" if made_by_call else self.at.text

    @property
    def heading(self) -> str:
        """Its heading: a class and a function may differ by capitals only, which links ignore."""
        match self.group:
            case "Classes":
                return f"class {self.name}"
            case "Errors":
                return f"error {self.name}"
            case "Types and constants":
                is_type = self.name[0].isupper() and not self.name.isupper()
                return f"{'type' if is_type else 'constant'} {self.name}"
        return f"{self.name}()"

    @property
    def place(self) -> str:
        """Its page and heading."""
        return f"{page_of(self.module)}#{slug(self.heading)}"

    @property
    def link(self) -> str:
        """A link to it, in Markdown."""
        return f"[`{self.name}`]({self.place})"

    @property
    def summary(self) -> str:
        """The first sentence."""
        paragraph = " ".join(self.text.partition("\n\n")[0].split())
        return re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0]


def slug(heading: str) -> str:
    """Return what links to a heading end with."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def page_of(module: str) -> str:
    """Return the file that describes a module."""
    return f"{module.partition('.')[2] or 'README'}.md"


@cache
def public_modules() -> tuple[str, ...]:
    """Return the modules without an underscore in their path."""
    return ("ollama_otel", *_modules_below("ollama_otel", ollama_otel.__path__))


def _modules_below(package: str, path: Iterable[str]) -> Iterator[str]:
    for found in sorted(pkgutil.iter_modules(path), key=lambda each: each.name):
        if not found.name.startswith("_"):
            name = f"{package}.{found.name}"
            yield name
            if found.ispkg:
                yield from _modules_below(name, import_module(name).__path__)


def entries(module: str) -> dict[str, Entry | None]:
    """Return the public names of a module, each with the entry that describes it.

    Names of the official package, and modules, have none.
    """
    homes = described()
    return {name: homes.get(_key(module, name)) for name in import_module(module).__all__}


def _key(module: str, name: str) -> tuple[str, str]:
    at = definition(module, name)
    return ("", "") if at is None else (at.module, at.name)


@cache
def described() -> Mapping[tuple[str, str], Entry]:
    """Return the entry of each definition: on the page of the module where it is, if public.

    The package itself describes only what no other module offers.
    """
    found: dict[tuple[str, str], Entry] = {}
    for module in sorted(public_modules(), key=lambda name: (name == "ollama_otel", name)):
        for name in import_module(module).__all__:
            at = definition(module, name)
            if at is not None and (at.module == module or _key(module, name) not in found):
                found[_key(module, name)] = Entry(module, name, at)
    return found


@cache
def _names() -> Mapping[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for each in described().values():
        found.setdefault(each.name, []).append(each)
    return found


def linked(text: str, module: str) -> str:
    """Link the public names in backticks, and write a section `Args:` as a list."""
    lines = (
        line if line.startswith("    ") else re.sub(r"(?<!\[)`([\w.]+)`", _link_in(module), line)
        for line in _with_lists(text).splitlines()
    )
    return "\n".join(lines)


def _link_in(module: str) -> Callable[[re.Match[str]], str]:
    """Return what replaces a name: a link if it is clear which public name it means."""

    def link(match: re.Match[str]) -> str:
        name = match[1]
        if name in public_modules()[1:]:
            return f"[{match[0]}]({page_of(name)})"
        found = _names().get(name.rpartition(".")[2], [])
        near = [each for each in found if each.module == module]
        if "." in name:
            found = [each for each in found if f"{each.module}.{each.name}" == name]
        elif near or name.islower():
            # Parameters and fields have the names of functions, too.
            found = near or [each for each in found if "_" in name or name in ollama_otel.__all__]
        return f"[{match[0]}]({found[0].place})" if len(found) == 1 else match[0]

    return link


def _with_lists(text: str) -> str:
    before, args, after = text.partition("\nArgs:\n")
    items = re.sub(r"^    (\w+): ", r"- `\1`: ", after, flags=re.MULTILINE)
    return (
        f"{before}\nArguments:\n\n{re.sub('^ {8}', '  ', items, flags=re.MULTILINE)}"
        if args
        else text
    )
