"""The official responses, with the typed value of their text."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from ollama import ChatResponse, GenerateResponse
from pydantic import BaseModel, PrivateAttr
from pydantic_core import from_json

from ollama_otel._attempt import Attempt
from ollama_otel._structured.answers import Answer

__all__ = [
    "ChatPart",
    "GeneratePart",
    "ParsedChatResponse",
    "ParsedGenerateResponse",
    "part_of",
    "response_of",
]

T_co = TypeVar("T_co", covariant=True)


class _Parsed(BaseModel, Generic[T_co]):
    """The additional attributes of a response, which are not fields."""

    _parsed: Any = PrivateAttr(default=None)
    _attempts: tuple[Attempt, ...] = PrivateAttr(default=())

    @property
    def parsed(self) -> T_co:
        """The answer as a value of the requested type."""
        return cast("T_co", self._parsed)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All answers of the model, the first one first; the last one was parsed."""
        return self._attempts


class _Part(BaseModel, Generic[T_co]):
    """The additional attributes of a part of a stream, which are not fields."""

    _answer: Answer | None = PrivateAttr(default=None)
    _count: int = PrivateAttr(default=0)
    """The parts of the answer up to this one."""
    _is_last: bool = PrivateAttr(default=False)
    _parsed: Any = PrivateAttr(default=None)

    @property
    def parsed(self) -> T_co | None:
        """The answer so far as a value of the type; None if it is not valid yet.

        In the part with `done`, it is the validated value of the whole answer, or None. In earlier
        parts, pydantic's partial validation decides: a list has the items so far; a model is there
        when all of its required fields are.
        """
        if self._is_last or self._answer is None:
            return cast("T_co | None", self._parsed)
        return self._answer.output.so_far(self._answer.text(self._count))

    @property
    def partial(self) -> Any:
        """The answer so far as JSON's own types, not validated; None before its first value."""
        if self._answer is None:
            return None
        try:
            return from_json(self._answer.text(self._count), allow_partial="trailing-strings")
        except ValueError:
            return None

    @property
    def attempt(self) -> int:
        """Which answer this is a part of: 1, and more if the model was asked again."""
        return 1 if self._answer is None else self._answer.number


class ParsedChatResponse(_Parsed[T_co], ChatResponse, Generic[T_co]):
    """An official `ChatResponse` with its text as a typed value."""


class ParsedGenerateResponse(_Parsed[T_co], GenerateResponse, Generic[T_co]):
    """An official `GenerateResponse` with its text as a typed value."""


class ChatPart(_Part[T_co], ChatResponse, Generic[T_co]):
    """A part of a stream: an official `ChatResponse` with the typed value so far."""


class GeneratePart(_Part[T_co], GenerateResponse, Generic[T_co]):
    """A part of a stream: an official `GenerateResponse` with the typed value so far."""


def response_of(official: Any, parsed: Any, attempts: tuple[Attempt, ...]) -> Any:
    """Return an official response with its value."""
    kind = ParsedChatResponse if isinstance(official, ChatResponse) else ParsedGenerateResponse
    made = _copied(kind, official)
    made._parsed, made._attempts = parsed, attempts  # noqa: SLF001 - the same module's
    return made


def part_of(official: Any, answer: Answer, parsed: Any) -> Any:
    """Return an official part of a stream with the answer so far; `parsed` if it is the last."""
    kind = ChatPart if isinstance(official, ChatResponse) else GeneratePart
    made = _copied(kind, official)
    made._answer, made._count = answer, len(answer.pieces)  # noqa: SLF001
    made._is_last, made._parsed = bool(official.done), parsed  # noqa: SLF001
    return made


def _copied(kind: Any, official: Any) -> Any:
    return kind.model_construct(official.model_fields_set, **official.__dict__)
