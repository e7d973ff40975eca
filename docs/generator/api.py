"""The reference of the public names: a page for each public module, and an index."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple, is_typeddict

from msgspec import Struct

import ollama_otel
from generator.source import (
    Definition,
    Function,
    decorators,
    definition,
    field_default,
    in_package,
    members_of,
    shown_annotation,
    signature,
)

__all__ = ["Entry", "api_pages", "entries", "entry_text", "public_modules"]

_INDEX: Final = """\
# Public names

Every name that a program may import from `ollama_otel`: what it is, what it takes and returns, and what it raises.
A name that several modules offer is described on one page, and the others link to it.
Times are seconds and sizes are bytes unless the text says otherwise; `None` means unknown.
[Stability](../../stability.md) says what may change.
"""
_GENERATED: Final = """\
This page is generated from the code: run `python docs/generate.py` after a change to a public name.
"""
_OFFICIAL: Final = """\
## Names of the official package

These are the official package's own objects; [its documentation](https://github.com/ollama/ollama-python) describes them:
"""
_FUNCTIONS, _CLASSES, _ERRORS = "Functions", "Classes", "Errors"
_TYPES, _HOOKS = "Types and constants", "Hooks of pytest"
_GROUPS: Final = (_FUNCTIONS, _CLASSES, _ERRORS, _TYPES, _HOOKS)
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
        return f"{_page(self.module)}#{_slug(self.heading)}"

    @property
    def link(self) -> str:
        """A link to it, in Markdown."""
        return f"[`{self.name}`]({self.place})"

    @property
    def summary(self) -> str:
        """The first sentence."""
        paragraph = " ".join(self.text.partition("\n\n")[0].split())
        return re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0]


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def _page(module: str) -> str:
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
    homes = _homes()
    return {name: homes.get(_key(module, name)) for name in import_module(module).__all__}


def _key(module: str, name: str) -> tuple[str, str]:
    at = definition(module, name)
    return ("", "") if at is None else (at.module, at.name)


@cache
def _homes() -> Mapping[tuple[str, str], Entry]:
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


def api_pages() -> dict[str, Callable[[], str]]:
    """Return what writes each page, by file name."""
    modules = public_modules()[1:]
    return {"README.md": _index_page} | {
        _page(each): partial(_module_page, each) for each in modules
    }


def _index_page() -> str:
    modules = (f"- [`{each}`]({_page(each)}): {_summary(each)}" for each in public_modules()[1:])
    own = (_row(name, entry) for name, entry in entries("ollama_otel").items())
    return (
        _joined(
            _INDEX,
            "## Modules",
            "\n".join(modules),
            "## Names of the package itself",
            "`from ollama_otel import ...`:",
            "\n".join(own),
            _entries_text("ollama_otel"),
        )
        + _GENERATED
    )


def _summary(module: str) -> str:
    paragraph = (import_module(module).__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def _row(name: str, entry: Entry | None) -> str:
    if entry is None:
        return f"- [`{name}`](ollama.md): {_summary('ollama_otel.ollama')}"
    return f"- [`{name}`]({entry.place}): {entry.summary}"


def _module_page(module: str) -> str:
    offered = entries(module)
    official = [f"`{name}`" for name, entry in offered.items() if entry is None]
    elsewhere = [
        _row(name, entry)
        for name, entry in offered.items()
        if entry is not None and entry.module != module
    ]
    return (
        _joined(
            f"# {module}",
            _linked(inspect.cleandoc(import_module(module).__doc__ or ""), module),
            _contents(module),
            _entries_text(module),
            _joined("## Described elsewhere", "\n".join(elsewhere)) if elsewhere else "",
            _joined(_OFFICIAL, ", ".join(official)) if official else "",
        )
        + _GENERATED
    )


def _own(module: str) -> list[Entry]:
    return [each for each in entries(module).values() if each is not None and each.module == module]


def _contents(module: str) -> str:
    lines = []
    for group in _GROUPS:
        own = [each for each in _own(module) if each.group == group]
        if own:
            names = ", ".join(f"[`{each.name}`](#{_slug(each.heading)})" for each in own)
            lines.append(f"- {group}: {names}")
    return "\n".join(lines)


def _entries_text(module: str) -> str:
    text = ""
    for group in _GROUPS:
        if own := [entry_text(each) for each in _own(module) if each.group == group]:
            text += _joined(f"## {group}", *own)
    return text


def entry_text(entry: Entry) -> str:
    """Return the heading of an entry and all that follows."""
    if isinstance(entry.at.node, ast.ClassDef):
        made = _constructor(entry)
        parts = [
            "" if made is None else _code(_call(entry.name, made)),
            _linked(entry.text, entry.module),
            "" if made is None else _linked(made.text, entry.module),
            _bases(entry.value),
            _abilities(entry.value),
            _fields(entry),
            _methods(entry),
        ]
    elif isinstance(entry.at.node, Function):
        parts = [_function([entry.at], entry.module)]
    else:
        parts = [_assignment(entry), _linked(entry.text, entry.module)]
    return _joined(f"### {entry.heading}", *parts)


def _joined(*parts: str) -> str:
    return "".join(f"{part}\n\n" for each in parts if (part := each.strip("\n")))


def _function(found: list[Definition], module: str, *, is_method: bool = False) -> str:
    """Write a function, each of its overloads as a signature."""
    overloads = [each for each in found if "overload" in _decorators(each)]
    lines = [signature(each.name, each, is_method=is_method) for each in overloads or found[-1:]]
    shown = [f"@{each}" for each in _SHOWN_DECORATORS if each in _decorators(found[-1])]
    return _joined(_code("\n".join([*shown, *lines])), _linked(found[-1].text, module))


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
        elif (found := _homes().get((base.__module__, base.__name__))) is not None:
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
    for name, at in _variables(entry.value).items():
        text = " ".join(_linked(at.text, entry.module).split())
        rows.append(
            f"- `{name}{_type_and_default(at, entry.value)}`" + (f"  \n  {text}" if text else "")
        )
    return "\n".join(rows)


def _variables(cls: type) -> dict[str, Definition]:
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
        _joined(f"#### {entry.name}.{name}()", _function(each, entry.module, is_method=True))
        for name, each in found.items()
    )
    return "".join(parts)


@cache
def _names() -> Mapping[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for each in _homes().values():
        found.setdefault(each.name, []).append(each)
    return found


def _linked(text: str, module: str) -> str:
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
            return f"[{match[0]}]({_page(name)})"
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
