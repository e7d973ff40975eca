"""The source of a name: where it is defined, its signature, and the text that stands with it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise, zip_longest
from typing import Final

__all__ = [
    "Definition",
    "Function",
    "decorators",
    "definition",
    "field_default",
    "in_package",
    "members_of",
    "shown_annotation",
    "shown_default",
    "signature",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef
_LINE: Final = 90
"""Characters of a signature that stands on one line."""
_LONGEST_VALUE: Final = 60
"""Characters of a default that is shown as a value."""
_EMPTY: Final = {"tuple": "()", "list": "[]", "dict": "{}", "set": "set()"}


@dataclass(frozen=True)
class Definition:
    """A statement that gives a module or a class a name, and the text that stands with it."""

    module: str
    name: str
    node: ast.stmt
    text: str

    @property
    def source(self) -> str:
        """The statement as it is written, which a formatter of Markdown leaves as it is."""
        text = inspect.getsource(import_module(self.module))
        return ast.get_source_segment(text, self.node) or ""

    @property
    def value(self) -> ast.expr | None:
        """The assigned value, if it is an assignment."""
        return self.node.value if isinstance(self.node, ast.Assign | ast.AnnAssign) else None

    @property
    def annotation(self) -> ast.expr | None:
        """The type of a variable, or of what a function returns."""
        if isinstance(self.node, Function):
            return self.node.returns
        return self.node.annotation if isinstance(self.node, ast.AnnAssign) else None


def in_package(cls: type) -> bool:
    """Whether a class is defined in the package."""
    return cls.__module__.partition(".")[0] == "ollama_otel"


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))


@cache
def definition(module: str, name: str) -> Definition | None:
    """Follow imports to where a name is defined.

    None if that is outside of the package, or the name is a module.
    """
    found: Definition | None = None
    for node, text in _with_texts(_tree(module).body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ollama_otel"):
            for alias in node.names:
                if name == (alias.asname or alias.name) and node.module != module:
                    return definition(str(node.module), alias.name)
        elif name in _names(node):
            found = Definition(module, name, node, text)
    return found


def _with_texts(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Yield statements with their docstrings, those of blocks for type checkers too."""
    for node, below in pairwise([*body, ast.Pass()]):
        match node, below:
            case ((ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef()), _):
                yield node, ast.get_docstring(node) or ""
            case ((ast.Assign() | ast.AnnAssign()), ast.Expr(ast.Constant(str(text)))):
                yield node, inspect.cleandoc(text)
            case ast.If(), _:
                yield from _with_texts(node.body)
            case _:
                yield node, ""


def _names(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


@cache
def members_of(cls: type) -> Mapping[str, list[Definition]]:
    """Return the definitions in the body of a class; a function with overloads has several.

    What `__init__` assigns to attributes of `self` is among them.
    """
    found: dict[str, list[Definition]] = {}
    at = definition(cls.__module__, cls.__name__)
    assert at is not None, cls
    assert isinstance(at.node, ast.ClassDef), cls
    for node, text in _with_texts(at.node.body):
        for name in _names(node):
            found.setdefault(name, []).append(Definition(at.module, name, node, text))
    for made in found.get("__init__", []):
        for each in _assigned_by(made):
            found.setdefault(each.name, [each])
    return found


def _assigned_by(made: Definition) -> Iterator[Definition]:
    assert isinstance(made.node, ast.FunctionDef)
    types = {
        each.arg: each.annotation for each in [*made.node.args.args, *made.node.args.kwonlyargs]
    }
    for node, text in _with_texts(made.node.body):
        match node:
            case ast.AnnAssign(target=ast.Attribute(ast.Name("self"), name), annotation=annotation):
                pass
            case ast.Assign(targets=[ast.Attribute(ast.Name("self"), name)], value=ast.Name(given)):
                annotation = types.get(given)
            case _:
                continue
        if annotation is not None:
            without = ast.AnnAssign(ast.Name(name), annotation, value=None, simple=1)
            yield Definition(made.module, name, without, text)


def signature(name: str, at: Definition, *, is_method: bool = False) -> str:
    """Write a function as in a stub, on one line or with a line for each parameter."""
    node = at.node
    assert isinstance(node, Function)
    parameters = list(_parameters(node.args, at.module))
    if is_method and "staticmethod" not in decorators(node):
        del parameters[0]
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = "" if node.returns is None else f" -> {shown_annotation(node.returns)}"
    line = f"{word} {name}({', '.join(parameters)}){result}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"{word} {name}(", *(f"    {each}," for each in parameters), f"){result}"])


def decorators(node: Function) -> set[str]:
    """Return the names of the decorators, without their arguments."""
    return {ast.unparse(each).partition("(")[0] for each in node.decorator_list}


def _parameters(given: ast.arguments, module: str) -> Iterator[str]:
    positional = [*given.posonlyargs, *given.args]
    backwards = zip_longest(reversed(positional), reversed(given.defaults))
    pairs = [(each, default) for each, default in backwards if each is not None][::-1]
    for index, (each, default) in enumerate(pairs, 1):
        yield _parameter(each, default, module)
        if index == len(given.posonlyargs):
            yield "/"
    if given.vararg is not None:
        yield f"*{_parameter(given.vararg, None, module)}"
    elif given.kwonlyargs:
        yield "*"
    for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _parameter(each, default, module)
    if given.kwarg is not None:
        yield f"**{_parameter(given.kwarg, None, module)}"


def _parameter(given: ast.arg, default: ast.expr | None, module: str) -> str:
    annotation = "" if given.annotation is None else f": {shown_annotation(given.annotation)}"
    if default is None:
        return f"{given.arg}{annotation}"
    sign = " = " if annotation else "="
    return f"{given.arg}{annotation}{sign}{shown_default(default, module)}"


def shown_annotation(annotation: ast.expr) -> str:
    """Write a type, without the limits that `Annotated` adds to it."""
    return _unparsed(_WithoutLimits().visit(ast.parse(ast.unparse(annotation), mode="eval")))


def _unparsed(node: ast.AST) -> str:
    return _quoted(ast.unparse(node))


def _quoted(text: str) -> str:
    """Write strings with the quotes of the source."""
    return re.sub(r"""'([^'"\\]*)'""", r'"\1"', text)


class _WithoutLimits(ast.NodeTransformer):
    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if ast.unparse(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):
            return self.visit(node.slice.elts[0])
        return self.generic_visit(node)


def shown_default(default: ast.expr | None, module: str) -> str:
    """Write a default: a plain value as such, all else as in the source; "" without one."""
    if default is None:
        return ""
    try:
        value = eval(ast.unparse(default), vars(import_module(module)))  # noqa: S307 - our own source
    except NameError:
        # A name of the class's own body.
        return _unparsed(default)
    if _is_plain(value) and len(repr(value)) <= _LONGEST_VALUE:
        return _quoted(repr(value))
    if isinstance(default, ast.Name) and default.id.startswith("_"):
        at = definition(module, default.id)
        return "..." if at is None else shown_default(at.value, at.module)
    return _unparsed(default)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return type(value) is tuple and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str, bytes)


def field_default(at: Definition, cls: type) -> str:
    """Write the default of a field of a class, which a function such as `field` may make."""
    if not isinstance(at.value, ast.Call):
        return shown_default(at.value, at.module)
    given = {each.arg: each.value for each in at.value.keywords}
    if (factory := given.get("default_factory")) is not None:
        name = ast.unparse(factory)
        return _EMPTY.get(name, f"{name}()" if name.isidentifier() else "...")
    if ast.unparse(at.value.func) == "field":
        return shown_default(given.get("default"), at.module)
    if dataclasses.is_dataclass(cls):
        # What a function of ours has made, such as a setting.
        made = {each.name: each.default for each in dataclasses.fields(cls)}.get(at.name)
        if at.name in vars(cls) and _is_plain(made):
            return _quoted(repr(made))
    return shown_default(at.value, at.module)
