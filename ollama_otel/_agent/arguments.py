"""Validates the arguments of a tool call, against a function's signature or a JSON schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from msgspec import Struct
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from ollama_otel.errors import ToolSchemaError

__all__ = ["InvalidArgumentsError", "Parameters", "resolved_signature"]

_JSON_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": dict[str, Any],
    "array": list[Any],
    "null": None,
}
_REFUSED_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional-only",
    inspect.Parameter.VAR_POSITIONAL: "*args",
}


class InvalidArgumentsError(Exception):
    """The arguments of a tool call do not fit; the message is for the model."""


class _Parameter(Struct, frozen=True):
    adapter: TypeAdapter[Any]
    is_required: bool


class Parameters:
    """The parameters of one tool."""

    def __init__(self, parameters: Mapping[str, _Parameter], *, allows_more: bool) -> None:
        self._parameters = parameters
        self._allows_more = allows_more

    @classmethod
    def of_function(cls, signature: inspect.Signature, tool: str) -> Parameters:
        """Raises `ToolSchemaError` for parameters that have no name, and for unusable types."""
        found = {}
        allows_more = False
        for name, each in signature.parameters.items():
            if each.kind is inspect.Parameter.VAR_KEYWORD:
                allows_more = True
                continue
            if each.kind in _REFUSED_KINDS:
                raise ToolSchemaError(
                    f"tool {tool!r}: a model gives arguments by name, and {name!r} is "
                    f"{_REFUSED_KINDS[each.kind]}: use parameters that have names"
                )
            kind = Any if each.annotation is each.empty else each.annotation
            found[name] = _Parameter(
                _adapter(kind, f"tool {tool!r}, parameter {name!r}"), each.default is each.empty
            )
        return cls(found, allows_more=allows_more)

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any], tool: str) -> Parameters:
        """Use the types of a JSON schema's properties; other keywords are not checked."""
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        if missing := [name for name in required if name not in properties]:
            raise ToolSchemaError(f"tool {tool!r}: {missing[0]!r} is required, and no property")
        found = {
            name: _Parameter(
                _adapter(_type_of(each), f"tool {tool!r}, property {name!r}"), name in required
            )
            for name, each in properties.items()
        }
        return cls(found, allows_more=schema.get("additionalProperties", True) is not False)

    def validated(self, arguments: Any) -> dict[str, Any]:
        """Return the arguments in the types of the parameters; raises `InvalidArgumentsError`."""
        if not isinstance(arguments, Mapping):
            raise InvalidArgumentsError("arguments: expected an object")
        faults: list[str] = []
        values: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if name not in arguments:
                faults += [f"{name}: it is missing"] if parameter.is_required else []
                continue
            try:
                values[name] = parameter.adapter.validate_python(arguments[name])
            except ValidationError as error:
                faults += [_said(name, each) for each in error.errors(include_url=False)]
        more = {name: value for name, value in arguments.items() if name not in self._parameters}
        if more and not self._allows_more:
            known = ", ".join(self._parameters) or "none"
            faults += [f"{name}: there is no such parameter; known: {known}" for name in more]
        if faults:
            raise InvalidArgumentsError("; ".join(faults))
        return values | more


def _said(name: str, fault: Mapping[str, Any]) -> str:
    place = ".".join(map(str, (name, *fault["loc"])))
    return f"{place}: {fault['msg']}"


def _adapter(kind: Any, where: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except (PydanticUserError, TypeError, NameError) as error:
        raise ToolSchemaError(f"{where}: pydantic cannot validate its type: {error}") from error


def resolved_signature(function: Callable[..., Any], tool: str) -> inspect.Signature:
    """Return a signature with types in place of their names; raises `ToolSchemaError`."""
    try:
        return inspect.signature(function, eval_str=True)
    except (ValueError, TypeError) as error:
        raise ToolSchemaError(f"tool {tool!r} has no signature that can be read") from error
    except (NameError, AttributeError, SyntaxError) as error:
        raise ToolSchemaError(
            f"tool {tool!r}: a type in its signature is not known where it is defined: {error}"
        ) from error


def _type_of(schema: Any) -> Any:
    """Return the Python type of a JSON schema; Any for what has none."""
    if not isinstance(schema, Mapping):
        return Any
    values = schema.get("enum")
    if isinstance(values, list | tuple) and values and all(map(_is_literal, values)):
        return Literal[tuple(values)]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list | tuple) and choices:
        return Union[tuple(map(_type_of, choices))]  # noqa: UP007 - made at run time
    kinds = schema.get("type")
    if isinstance(kinds, list | tuple) and kinds:
        return Union[tuple(_type_of({**schema, "type": kind}) for kind in kinds)]  # noqa: UP007
    if kinds == "array" and isinstance(schema.get("items"), Mapping):
        return list[_type_of(schema["items"])]  # type: ignore[misc]  # made at run time
    return _JSON_TYPES.get(kinds, Any) if isinstance(kinds, str) else Any


def _is_literal(value: Any) -> bool:
    return value is None or isinstance(value, str | int | bool)
