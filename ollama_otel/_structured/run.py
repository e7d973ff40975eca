"""A request for a typed value, from its first call to its end: no I/O, the same for all colours."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import ollama

from ollama_otel import _names as names
from ollama_otel._attempt import Attempt, StructuredOutcome
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._structured.answers import Answer, judge
from ollama_otel._structured.output_type import OutputType
from ollama_otel._structured.requests import RequestInput
from ollama_otel._structured.responses import part_of, response_of
from ollama_otel._telemetry.operations import Operation
from ollama_otel._wire import failures
from ollama_otel.errors import FormatError, OutputMismatchError

__all__ = ["Plan", "Run"]

T = TypeVar("T")

_OPERATION: Final = "structured_output"

_MEANINGS: Final[dict[StructuredOutcome, str]] = {
    "schema_ignored": (
        "the server did not apply the schema. Ollama applies it only after the thinking of a model "
        "that can think: with think=False, or if the thinking does not end, it may never do so"
    ),
    "cut_by_num_predict": "the answer was cut at num_predict, or at the server's own limit",
    "incomplete": "the server ended the answer without its final message",
    "schema_mismatch": "the type's validation refused the answer",
}


class Plan(Generic[T]):
    """What is requested: the type, the input, and how often the model may be asked."""

    def __init__(
        self,
        output: OutputType[T],
        asked: RequestInput,
        *,
        model: str,
        attempts: int | None,
        schema_in_prompt: bool,
        has_tools: bool,
    ) -> None:
        """Raises `FormatError` if the request cannot be made."""
        if has_tools:
            raise FormatError(
                "a typed answer cannot be requested together with tools: Ollama then suppresses "
                "the tool calls; request the type in a call of its own"
            )
        self.attempts = 1 if attempts is None else attempts
        if isinstance(attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise FormatError(f"attempts must be a whole number of at least 1, not {attempts!r}")
        self.output, self.asked, self.model = output, asked, model
        self.shown_schema = output.schema if schema_in_prompt else None


class Run(Generic[T]):
    """One run of a plan; a context manager around all of its calls."""

    def __init__(self, plan: Plan[T], instrumentation: Instrumentation) -> None:
        self._plan = plan
        self._attempts: list[Attempt] = []
        self._operation = Operation(
            instrumentation,
            _OPERATION,
            plan.model,
            {names.STRUCTURED_TYPE: plan.output.name},
        )
        self._answer: Answer = Answer(plan.output, 1)
        self._value: T | None = None
        self._input: Any = plan.asked.first(plan.shown_schema)
        self._error: OutputMismatchError | None = None
        self.is_over = False
        """Whether there is a value, or no further request follows."""

    @property
    def input(self) -> Any:
        """The messages or the prompt of the next call."""
        return self._input

    @property
    def schema(self) -> dict[str, Any]:
        """The format of each call."""
        return self._plan.output.schema

    def calling(self) -> AbstractContextManager[None]:
        """Make the span of the run the parent of spans in this block."""
        return self._operation.current()

    def took(self, response: Any) -> Any:
        """Take a whole response; return it with its value, None to call again.

        Raises `OutputMismatchError` if it was the last attempt and is not valid.
        """
        self._answer.add(response)
        self._judge()
        self.settle()
        if not self.is_over:
            return None
        return response_of(response, self._value, tuple(self._attempts))

    def part(self, part: Any) -> Any:
        """Take a part of a stream; return it with the value so far."""
        answer = self._answer
        answer.add(part)
        if part.done:
            self._judge()
        return part_of(part, answer, self._value)

    def settle(self) -> None:
        """Take the end of a response; raises `OutputMismatchError` if no call follows."""
        if len(self._attempts) < self._answer.number:
            self._judge()
        if self._error is not None:
            raise self._error
        if not self.is_over:
            last = self._attempts[-1]
            is_unknown = last.outcome == "schema_ignored"
            schema = self.schema if is_unknown else self._plan.shown_schema
            self._input = self._plan.asked.again(schema, last)
            self._answer = Answer(self._plan.output, self._answer.number + 1)

    def _judge(self) -> None:
        self._value, attempt = judge(self._answer)
        self._attempts.append(attempt)
        is_parsed = attempt.outcome == "parsed"
        # A further answer would be cut as well.
        is_hopeless = attempt.outcome == "cut_by_num_predict"
        self.is_over = is_parsed or is_hopeless or len(self._attempts) >= self._plan.attempts
        self._operation.answered(self._plan.asked.call, attempt.outcome, is_final=self.is_over)
        if self.is_over and not is_parsed:
            self._error = self._mismatch(attempt)

    def _mismatch(self, attempt: Attempt) -> OutputMismatchError:
        count = len(self._attempts)
        return OutputMismatchError(
            f"the model's answer is not a {self._plan.output.name} after {count} "
            f"{'attempt' if count == 1 else 'attempts'}: {attempt.outcome}: "
            f"{_MEANINGS[attempt.outcome]}. `text` and `reasons` of this error have the answer",
            self._attempts,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        attributes: dict[str, str | int] = {names.STRUCTURED_ATTEMPT_COUNT: self._answer.number}
        if self._attempts and self.is_over:
            attributes[names.STRUCTURED_OUTCOME] = self._attempts[-1].outcome
        end = self._operation.end
        if self._error is not None:
            end("failed", attributes, error_type=self._error.outcome)
        elif self.is_over or cause is None:
            end("completed", attributes)
        elif isinstance(cause, GeneratorExit):
            end("abandoned", attributes)
        elif failures.is_cancellation(cause):
            end("cancelled", attributes)
        else:
            end("failed", attributes, error_type=_error_type(cause))


def _error_type(cause: BaseException) -> str:
    if isinstance(cause, ollama.ResponseError):
        status = cause.status_code if cause.status_code > 0 else None
        return failures.from_server(status, cause.error)
    return failures.from_exception(cause)
