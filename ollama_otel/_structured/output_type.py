"""A type as the format of an answer: its JSON schema, and parsing of texts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, Generic, NewType, TypeGuard, TypeVar, cast, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import SchemaError, from_json

from ollama_otel._bounds import bounded_name
from ollama_otel.errors import FormatError

__all__ = ["Format", "OutputType", "is_type", "output_type"]

T = TypeVar("T")

Format = type[T] | TypeAdapter[T]
"""A type, or pydantic's adapter for it, for types such as `int | None`."""

_MOST_REASONS = 20
"""Most validation errors of an answer that are reported; a list may have thousands."""


def is_type(form: object) -> TypeGuard[Format[Any]]:
    """Whether a `format` is a type; anything else is for the official client."""
    if form is None or isinstance(form, str | Mapping):
        return False
    return (
        isinstance(form, type | TypeAdapter | NewType)
        or get_origin(form) is not None
        # Python 3.11 has no name for `type X = ...`, but packages may backport it.
        or type(form).__name__ == "TypeAliasType"
    )


def output_type(form: Format[T]) -> OutputType[T]:
    """Return the output type of a `format`; raises `FormatError` if it has no JSON schema."""
    try:
        hash(form)
    except TypeError:
        return OutputType(form)
    return cast("OutputType[T]", _cached(cast("Hashable", form)))


@lru_cache(maxsize=256)
def _cached(form: Hashable) -> OutputType[Any]:
    return OutputType(cast("Format[Any]", form))


class OutputType(Generic[T]):
    """One type: its name, its JSON schema, and the values of it in texts."""

    def __init__(self, form: Format[T]) -> None:
        try:
            adapter: TypeAdapter[T] = form if isinstance(form, TypeAdapter) else TypeAdapter(form)
            self.schema: dict[str, Any] = adapter.json_schema()
        except (
            PydanticUserError,
            PydanticUndefinedAnnotation,
            SchemaError,
            TypeError,
            ValueError,
        ) as error:
            raise FormatError(f"no JSON schema can be made of {_name_of(form)}: {error}") from error
        self._adapter = adapter
        self.name = bounded_name(str(self.schema.get("title") or _name_of(form)))

    def parsed(self, text: str) -> tuple[T | None, tuple[str, ...]]:
        """Return the value of a whole text, and its validation errors: empty if it is valid."""
        try:
            return self._adapter.validate_json(text), ()
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [_reason(each["loc"], each["msg"]) for each in found[:_MOST_REASONS]]
        if len(found) > _MOST_REASONS:
            lines.append(f"and {len(found) - _MOST_REASONS} more")
        return None, tuple(lines)

    def so_far(self, text: str) -> T | None:
        """Return the value of an incomplete text, if pydantic accepts it so far."""
        try:
            return self._adapter.validate_json(text, experimental_allow_partial="trailing-strings")
        except Exception:  # noqa: BLE001 - a validator of the caller may need the whole value
            return None

    def is_possible(self, text: str) -> bool:
        """Whether a server that applies the schema can have written this text, or a part of it.

        Only what every such server enforces counts: JSON, the kind of the outermost value, and
        its required members.
        """
        try:
            value = from_json(text)
        except ValueError:
            return _is_json_so_far(text)
        root = self._root()
        kinds = {"object": dict, "array": list, "string": str}
        kind = kinds.get(str(root.get("type")))
        if kind is not None and not isinstance(value, kind):
            return False
        required = root.get("required", ()) if isinstance(value, dict) else ()
        return all(name in value for name in required)

    def _root(self) -> Mapping[str, Any]:
        """Return the schema of the outermost value; a recursive type's is a reference."""
        reference = str(self.schema.get("$ref", ""))
        definitions: Mapping[str, Mapping[str, Any]] = self.schema.get("$defs", {})
        return definitions.get(reference.removeprefix("#/$defs/"), self.schema)


def _name_of(form: object) -> str:
    name = getattr(form, "__name__", None)
    return name if isinstance(form, type) and isinstance(name, str) else str(form)


def _reason(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, place))}: {message}" if place else message


def _is_json_so_far(text: str) -> bool:
    """Whether a text may be the beginning of JSON."""
    try:
        from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return False
    return True
