"""The methods of both clients that take a type as `format`. They differ by `await` only.

Without a type, they are the official methods.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, overload

import ollama
from ollama import ChatResponse, GenerateResponse, Image, Message, Options, Tool

from ollama_otel._client_instrumentation import instrumentation_of
from ollama_otel._structured.output_type import Format, is_type, output_type
from ollama_otel._structured.requests import ChatInput, PromptInput, RequestInput
from ollama_otel._structured.responses import (
    ChatPart,
    GeneratePart,
    ParsedChatResponse,
    ParsedGenerateResponse,
)
from ollama_otel._structured.run import Plan, Run
from ollama_otel.errors import FormatError

__all__ = ["ChatOptions", "GenerateOptions"]

T = TypeVar("T")


class ChatOptions(TypedDict, total=False):
    """The official keywords of `chat` that nothing here changes."""

    think: bool | str | None
    logprobs: bool | None
    top_logprobs: int | None
    options: Mapping[str, Any] | Options | None
    keep_alive: float | str | None


class GenerateOptions(ChatOptions, total=False):
    """The official keywords of `generate` that nothing here changes."""

    system: str
    template: str
    context: Sequence[int] | None
    raw: bool
    images: Sequence[str | bytes | Image] | None
    width: int | None
    height: int | None
    steps: int | None


_NEEDS_TYPE: Final = "attempts and schema_in_prompt need a type as format"


def _asked(
    source: str | Sequence[Mapping[str, Any] | Message],
) -> Sequence[Mapping[str, Any] | Message]:
    return [Message(role="user", content=source)] if isinstance(source, str) else source


def _checked(output_type: Format[T]) -> Format[T]:
    if not is_type(output_type):
        raise FormatError(f"expected a type to extract, found {output_type!r}")
    return output_type


def _plan(
    form: Format[T],
    asked: RequestInput,
    *,
    model: str,
    has_tools: bool = False,
    attempts: int | None,
    schema_in_prompt: bool,
) -> Plan[T]:
    return Plan(
        output_type(form),
        asked,
        model=model,
        attempts=attempts,
        schema_in_prompt=schema_in_prompt,
        has_tools=has_tools,
    )


class _StructuredCalls(ollama.Client):
    """`chat` and `generate` with a type as `format`, and `extract`."""

    @overload
    def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[False] = False,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatResponse: ...

    @overload
    def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[True] = True,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> Iterator[ChatResponse]: ...

    @overload
    def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[False] = False,
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[ChatOptions],
    ) -> ParsedChatResponse[T]: ...

    @overload
    def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[True],
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[ChatOptions],
    ) -> Iterator[ChatPart[T]]: ...

    def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: bool = False,
        format: Any = None,  # noqa: A002 - the official name
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Any,
    ) -> Any:
        """Like the official method; with a type as `format`, `parsed` is the typed value.

        A type is a pydantic model, a dataclass, a TypedDict, anything that pydantic can make a
        JSON schema of, or a `TypeAdapter`. The model is asked at most `attempts` times, by default
        once: after an answer that is not a value of the type, the next request contains the
        validation errors. With `schema_in_prompt` the schema is also in a message. Parts of a
        stream have the value so far.

        Raises `FormatError` if the type cannot be requested, `OutputMismatchError` if no answer is
        a value of the type (a stream raises it after its last part), and TypeError for `attempts`
        or `schema_in_prompt` without a type.
        """
        call: Any = super().chat
        if format is None or not is_type(format):
            if attempts is not None or schema_in_prompt:
                raise TypeError(_NEEDS_TYPE)
            return call(model, messages, tools=tools, stream=stream, format=format, **options)
        plan = _plan(
            format,
            ChatInput(messages),
            model=model,
            has_tools=bool(tools),
            attempts=attempts,
            schema_in_prompt=schema_in_prompt,
        )
        return (_stream if stream else _whole)(self, plan, call, options)

    @overload
    def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[False] = False,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> GenerateResponse: ...

    @overload
    def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[True] = True,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Iterator[GenerateResponse]: ...

    @overload
    def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[False] = False,
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> ParsedGenerateResponse[T]: ...

    @overload
    def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[True],
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Iterator[GeneratePart[T]]: ...

    def generate(
        self,
        model: str = "",
        prompt: str | None = None,
        suffix: str | None = None,
        *,
        stream: bool = False,
        format: Any = None,  # noqa: A002 - the official name
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Any,
    ) -> Any:
        """Like the official method; for a type as `format`, see `chat`."""
        call: Any = super().generate
        if format is None or not is_type(format):
            if attempts is not None or schema_in_prompt:
                raise TypeError(_NEEDS_TYPE)
            return call(model, prompt, suffix, stream=stream, format=format, **options)
        plan = _plan(
            format,
            PromptInput(prompt),
            model=model,
            attempts=attempts,
            schema_in_prompt=schema_in_prompt,
        )
        options["suffix"] = suffix
        return (_stream if stream else _whole)(self, plan, call, options)

    def extract(
        self,
        output_type: Format[T],
        source: str | Sequence[Mapping[str, Any] | Message],
        *,
        model: str = "",
        attempts: int = 1,
        schema_in_prompt: bool = False,
        **options: Unpack[ChatOptions],
    ) -> T:
        """Return the answer of a chat as a value of a type; `source` is a prompt or messages.

        The keywords are those of `chat`, and so are the errors.
        """
        response = self.chat(
            model,
            _asked(source),
            stream=False,
            format=_checked(output_type),
            attempts=attempts,
            schema_in_prompt=schema_in_prompt,
            **options,
        )
        return response.parsed


class _AsyncStructuredCalls(ollama.AsyncClient):
    """`chat` and `generate` with a type as `format`, and `extract`."""

    @overload
    async def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[False] = False,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatResponse: ...

    @overload
    async def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[True] = True,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> AsyncIterator[ChatResponse]: ...

    @overload
    async def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[False] = False,
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[ChatOptions],
    ) -> ParsedChatResponse[T]: ...

    @overload
    async def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: Literal[True],
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[ChatOptions],
    ) -> AsyncIterator[ChatPart[T]]: ...

    async def chat(
        self,
        model: str = "",
        messages: Sequence[Mapping[str, Any] | Message] | None = None,
        *,
        tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
        stream: bool = False,
        format: Any = None,  # noqa: A002 - the official name
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Any,
    ) -> Any:
        """Like the official method; with a type as `format`, `parsed` is the typed value.

        A type is a pydantic model, a dataclass, a TypedDict, anything that pydantic can make a
        JSON schema of, or a `TypeAdapter`. The model is asked at most `attempts` times, by default
        once: after an answer that is not a value of the type, the next request contains the
        validation errors. With `schema_in_prompt` the schema is also in a message. Parts of a
        stream have the value so far.

        Raises `FormatError` if the type cannot be requested, `OutputMismatchError` if no answer is
        a value of the type (a stream raises it after its last part), and TypeError for `attempts`
        or `schema_in_prompt` without a type.
        """
        call: Any = super().chat
        if format is None or not is_type(format):
            if attempts is not None or schema_in_prompt:
                raise TypeError(_NEEDS_TYPE)
            return await call(model, messages, tools=tools, stream=stream, format=format, **options)
        plan = _plan(
            format,
            ChatInput(messages),
            model=model,
            has_tools=bool(tools),
            attempts=attempts,
            schema_in_prompt=schema_in_prompt,
        )
        if stream:
            return _async_stream(self, plan, call, options)
        return await _async_whole(self, plan, call, options)

    @overload
    async def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[False] = False,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> GenerateResponse: ...

    @overload
    async def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[True] = True,
        format: Literal["", "json"] | dict[str, Any] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncIterator[GenerateResponse]: ...

    @overload
    async def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[False] = False,
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> ParsedGenerateResponse[T]: ...

    @overload
    async def generate(
        self,
        model: str = "",
        prompt: str = "",
        suffix: str = "",
        *,
        stream: Literal[True],
        format: Format[T],
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> AsyncIterator[GeneratePart[T]]: ...

    async def generate(
        self,
        model: str = "",
        prompt: str | None = None,
        suffix: str | None = None,
        *,
        stream: bool = False,
        format: Any = None,  # noqa: A002 - the official name
        attempts: int | None = None,
        schema_in_prompt: bool = False,
        **options: Any,
    ) -> Any:
        """Like the official method; for a type as `format`, see `chat`."""
        call: Any = super().generate
        if format is None or not is_type(format):
            if attempts is not None or schema_in_prompt:
                raise TypeError(_NEEDS_TYPE)
            return await call(model, prompt, suffix, stream=stream, format=format, **options)
        plan = _plan(
            format,
            PromptInput(prompt),
            model=model,
            attempts=attempts,
            schema_in_prompt=schema_in_prompt,
        )
        options["suffix"] = suffix
        if stream:
            return _async_stream(self, plan, call, options)
        return await _async_whole(self, plan, call, options)

    async def extract(
        self,
        output_type: Format[T],
        source: str | Sequence[Mapping[str, Any] | Message],
        *,
        model: str = "",
        attempts: int = 1,
        schema_in_prompt: bool = False,
        **options: Unpack[ChatOptions],
    ) -> T:
        """Return the answer of a chat as a value of a type; `source` is a prompt or messages.

        The keywords are those of `chat`, and so are the errors.
        """
        response = await self.chat(
            model,
            _asked(source),
            stream=False,
            format=_checked(output_type),
            attempts=attempts,
            schema_in_prompt=schema_in_prompt,
            **options,
        )
        return response.parsed


def _whole(client: object, plan: Plan[Any], call: Any, options: dict[str, Any]) -> Any:
    with Run(plan, instrumentation_of(client)) as run:
        while True:
            with run.calling():
                response = call(plan.model, run.input, format=run.schema, **options)
            taken = run.took(response)
            if taken is not None:
                return taken


def _stream(
    client: object, plan: Plan[Any], call: Any, options: dict[str, Any]
) -> Generator[Any, None, None]:
    with Run(plan, instrumentation_of(client)) as run:
        while not run.is_over:
            parts = call(plan.model, run.input, format=run.schema, stream=True, **options)
            try:
                # The request is sent when the first part is requested.
                with run.calling():
                    first = next(parts, None)
                if first is not None:
                    yield run.part(first)
                    for part in parts:
                        yield run.part(part)
            finally:
                parts.close()
            run.settle()


async def _async_whole(client: object, plan: Plan[Any], call: Any, options: dict[str, Any]) -> Any:
    with Run(plan, instrumentation_of(client)) as run:
        while True:
            with run.calling():
                response = await call(plan.model, run.input, format=run.schema, **options)
            taken = run.took(response)
            if taken is not None:
                return taken


async def _async_stream(
    client: object, plan: Plan[Any], call: Any, options: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    with Run(plan, instrumentation_of(client)) as run:
        while not run.is_over:
            parts = await call(plan.model, run.input, format=run.schema, stream=True, **options)
            try:
                # The request is sent when the first part is requested.
                with run.calling():
                    first = await anext(parts, None)
                if first is not None:
                    yield run.part(first)
                    async for part in parts:
                        yield run.part(part)
            finally:
                await parts.aclose()
            run.settle()
