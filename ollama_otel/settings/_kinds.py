"""Kinds of values: what a setting allows, and how the text of a variable becomes such a value.

A kind has one check. It applies to values from code and to those that a variable's text becomes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from ollama_otel._admission import is_host_name
from ollama_otel._frozen import FrozenDict
from ollama_otel.settings._messages import one_of

__all__ = [
    "ADDRESS",
    "HOST_NAMES",
    "JSON_OBJECT",
    "KEEP_ALIVE",
    "MODEL",
    "PATH",
    "REDACTORS",
    "SECONDS",
    "SECONDS_ABOVE_0",
    "SWITCH",
    "WHOLE_NUMBER",
    "Kind",
    "choice",
    "instance",
    "optional",
]


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The values that a setting allows."""

    code: str
    """What is allowed in code, as in `expected ...`."""
    text: str
    """What is allowed in a variable."""
    accepts: Callable[[Any], bool]
    """Whether a value is allowed; the only check."""
    read: Callable[[str], Any] = _unchanged
    """Make a value of a variable's text; raises ValueError or LookupError if it cannot."""
    keep: Callable[[Any], Any] = _unchanged
    """Make what is kept of an allowed value."""
    synonyms: tuple[tuple[str, str], ...] = ()
    """Further words in a variable, each with the one that it stands for."""
    shown: Callable[[Any], str] = repr
    """A wrong value as its message shows it, without secrets."""


def _type_of(value: object) -> str:
    """Return a value as a message shows it if it may be secret."""
    return f"a value of type {type(value).__name__}"


def instance(kind: type, code: str, *, is_secret: bool = False) -> Kind:
    """Return the kind of the instances of a type; no variable has it."""
    return Kind(
        code=code,
        text="",
        accepts=lambda value: isinstance(value, kind),
        shown=_type_of if is_secret else repr,
    )


def choice(literal: Any, *, upper: bool = False, **synonyms: str) -> Kind:
    """Return the kind of the words of a `Literal`; `upper`: conventions write them in capitals."""
    values: tuple[str, ...] = get_args(literal)
    words = {**{value: value for value in values}, **synonyms}
    return Kind(
        code=one_of(map(repr, values)),
        text=one_of(value.upper() if upper else value for value in values),
        accepts=lambda value: isinstance(value, str) and value in values,
        read=lambda text: words[text.lower()],
        synonyms=tuple(synonyms.items()),
    )


def optional(kind: Kind, *, code: str | None = None) -> Kind:
    """Return the kind that also allows None in code; `code` says what is allowed there."""
    return Kind(
        code=code or f"{kind.code} or None",
        text=kind.text,
        accepts=lambda value: value is None or kind.accepts(value),
        read=kind.read,
        keep=lambda value: None if value is None else kind.keep(value),
        synonyms=kind.synonyms,
        shown=kind.shown,
    )


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -math.inf < value < math.inf


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and str(value) != "" and "\0" not in str(value)


def _in_home(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the path with the home folder in place of a leading `~` or `~user`.

    No shell expands the value of a keyword, or of a variable in a service's file.
    """
    return os.path.expanduser(path) if str(path).startswith("~") else path  # noqa: PTH111 - any path


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


SWITCH: Final = Kind(
    code="True or False",
    text="true or false",
    accepts=lambda value: isinstance(value, bool),
    read=lambda text: {
        **dict.fromkeys(("true", "1", "yes", "on"), True),
        **dict.fromkeys(("false", "0", "no", "off"), False),
    }[text.lower()],
)
WHOLE_NUMBER: Final = Kind(
    code="a whole number of at least 1",
    text="a whole number of at least 1",
    accepts=_is_whole_number,
    read=int,
)
SECONDS: Final = Kind(
    code="a number of seconds, 0 or more",
    text="a number of seconds, 0 or more",
    accepts=_is_seconds,
    read=float,
)
SECONDS_ABOVE_0: Final = Kind(
    code="a number of seconds above 0",
    text="a number of seconds above 0",
    accepts=lambda value: _is_seconds(value) and value > 0,
    read=float,
)
PATH: Final = Kind(code="a path", text="a path", accepts=_is_path, keep=_in_home)
HOST_NAMES: Final = Kind(
    code="a tuple of host names without ports",
    text="host names without ports, separated by commas",
    accepts=lambda value: (
        isinstance(value, tuple)
        and all(isinstance(each, str) and is_host_name(each) for each in value)
    ),
    read=lambda text: tuple(name for each in text.split(",") if (name := each.strip())),
)
REDACTORS: Final = Kind(
    code="a tuple of functions from text to text",
    text="",
    accepts=lambda value: isinstance(value, tuple) and all(map(callable, value)),
)
MODEL: Final = Kind(
    code="the name of a model",
    text="the name of a model",
    accepts=lambda value: isinstance(value, str) and value != "",
)
# An address may have a password.
ADDRESS: Final = Kind(
    code="an address such as 'http://localhost:11434'",
    text="an address such as http://localhost:11434",
    accepts=lambda value: isinstance(value, str) and value != "",
    shown=lambda value: "''" if value == "" else _type_of(value),
)
KEEP_ALIVE: Final = Kind(
    code="a number of seconds, or a duration such as '5m'",
    text="a number of seconds, or a duration such as 5m",
    accepts=lambda value: value != "" if isinstance(value, str) else _is_number(value),
    read=_number_or_text,
)
JSON_OBJECT: Final = Kind(
    code="a mapping",
    text="a JSON object",
    accepts=lambda value: isinstance(value, Mapping),
    read=_json,
    keep=FrozenDict,
)
