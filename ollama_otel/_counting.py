"""The steps of `count_tokens`, without I/O; sync and async clients run the same steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import httpx
import ollama
from opentelemetry.instrumentation.utils import suppress_instrumentation

from ollama_otel._tokens.counts import TokenCount
from ollama_otel._tokens.directory import Answer, Directory, Question
from ollama_otel._tokens.requests import counted
from ollama_otel._wire.address import parse_host
from ollama_otel._wire.count_requests import count_request
from ollama_otel.settings import Settings

__all__ = ["CountSteps", "MessageLike", "ToolLike", "begin_count"]

MessageLike = Mapping[str, Any] | ollama.Message
"""A message as the methods of the official client take it."""
ToolLike = Mapping[str, Any] | ollama.Tool | Callable[..., Any]
"""A tool as they take it: a definition, or a function."""


class CountSteps:
    """One count: send `question` and pass the response to `advance`, until `question` is None."""

    def __init__(self, steps: Generator[Question, Answer, TokenCount]) -> None:
        self._steps = steps
        self.question: dict[str, Any] | None = None
        """Arguments of the next request; None once there is a result."""
        self.result: TokenCount | None = None

    def advance(self, response: httpx.Response | None = None) -> None:
        """Take the response to the last question; may take a second for a large vocabulary.

        Raises httpx.HTTPStatusError if the server refuses.
        """
        try:
            question = self._steps.send(None if response is None else _answer(response))
        except StopIteration as end:
            self.question, self.result = None, end.value
        else:
            self.question = {
                "method": question.method,
                "url": question.path,
                "json": question.body,
            }

    def asking(self) -> Any:
        """Return the block for sending a question; requests inside it are not recorded."""
        return suppress_instrumentation()


def _answer(response: httpx.Response) -> Answer:
    if response.request.method == "GET" and response.is_error:
        # A proxy may allow the generating routes only.
        return None
    response.raise_for_status()
    try:
        return response.json()
    except ValueError:
        return None


def begin_count(
    client: Any,
    settings: Settings | None,
    model: str,
    messages: Sequence[MessageLike] | str,
    tools: Sequence[ToolLike],
    *,
    think: bool | str | None,
    options: Mapping[str, Any] | None,
    keep_alive: float | str | None,
    render: bool,
) -> CountSteps:
    """Return the steps of one count for an httpx client."""
    request = count_request(
        model,
        messages if isinstance(messages, str) else [_as_json(each) for each in messages],
        [_as_json(_as_tool(each)) for each in tools],
        think=think,
        options=options,
        keep_alive=keep_alive,
    )
    url = parse_host(str(client.base_url)).url
    return CountSteps(counted(_directory(settings), url, model, request, render=render))


def _directory(settings: Settings | None) -> Directory:
    # Imported on use: few apps count.
    from ollama_otel._telemetry.truncation import directory_of  # noqa: PLC0415

    return directory_of(settings)


def _as_tool(tool: ToolLike) -> Mapping[str, Any] | ollama.Tool:
    if isinstance(tool, Mapping) or not callable(tool):
        return tool
    from ollama._utils import convert_function_to_tool  # noqa: PLC0415 - as the official client

    return convert_function_to_tool(tool)


def _as_json(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    found: dict[str, Any] = value.model_dump(exclude_none=True)
    return found
