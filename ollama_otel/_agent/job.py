"""One tool call without I/O: its checks, the decision about it, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from msgspec.structs import replace

from ollama_otel._agent.arguments import InvalidArgumentsError
from ollama_otel._agent.results import UnwritableResultError, clean, result_text
from ollama_otel._agent.toolbox import KnownTool
from ollama_otel._agent.trace import GuardedToolTrace
from ollama_otel._agent.values import Allow, Decision, Defer, Deny, ToolCallResult
from ollama_otel._exchange.agent_runs import ToolCallRecord, ToolCallStart, ToolOutcome

__all__ = ["MOST_NESTED", "ToolJob", "nesting"]

MOST_NESTED: Final = 20
"""Most agents nested in each other's tools. Python's recursion limit does not apply, as each tool
has its own thread.
"""
_nesting: ContextVar[int] = ContextVar("ollama_otel_agent_nesting", default=0)


def nesting() -> int:
    """Return the depth of nested tool calls around this code, each of another run."""
    return _nesting.get()


class ToolJob:
    """One tool call of a round. Only the first end counts, on any thread."""

    def __init__(
        self,
        start: ToolCallStart,
        tool: KnownTool | None,
        trace: GuardedToolTrace,
        *,
        clock: Callable[[], float],
        timeout: float | None,
        max_result_size: int,
    ) -> None:
        self.call = start.call
        self.tool = tool
        self.timeout = timeout
        """Time limit of the function, seconds."""
        self._start = start
        self._trace = trace
        self._clock = clock
        self._began_at = clock()
        self._most = max_result_size
        self._arguments: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._result: ToolCallResult | None = None
        self._nesting = nesting() + 1

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return self._result is None

    @property
    def has_no_function(self) -> bool:
        return self.tool is not None and self.tool.function is None

    @property
    def is_async(self) -> bool:
        return self.tool is not None and self.tool.is_async

    @property
    def result(self) -> ToolCallResult:
        """Its result; stops a call that has not ended."""
        self.stop()
        assert self._result is not None  # noqa: S101 - it has ended now
        return self._result

    def stop(self) -> None:
        """End a call that has not ended yet."""
        self.end("cancelled", "The call was stopped.")

    # --- before the call ------------------------------------------------------------------

    def check(self, known: tuple[str, ...]) -> None:
        """End the call if its tool is unknown or its arguments are invalid."""
        if self.tool is None:
            self.end(
                "unknown_tool",
                f"There is no such tool. The tools are: {', '.join(known) or 'none'}.",
            )
            return
        try:
            self._arguments = self.tool.parameters.validated(self.call.arguments)
        except InvalidArgumentsError as error:
            self.end("invalid_arguments", f"The arguments are invalid: {error}")
            return

    def refuse(self, most: int) -> None:
        """End a call that exceeds the limit."""
        self.end("over_limit", f"Not called: a run makes at most {most} tool calls.")

    def decide(self, decision: Decision) -> None:
        """Apply the decision of `before_tool`."""
        match decision:
            case Deny(reason=reason):
                self.end("denied", clean(reason))
            case Defer():
                self.defer()
            case Allow(arguments=Mapping() as arguments):
                self.call = replace(self.call, arguments=dict(arguments))
                self._start = replace(self._start, call=self.call)
                self.check(())
            case Allow():
                pass
            case _:
                raise TypeError(
                    "before_tool returns Allow(), Deny() or Defer(), found "
                    f"{type(decision).__qualname__}"
                )

    def defer(self) -> None:
        """End a call as deferred: the caller of the agent provides its result later."""
        self.end("deferred", "")

    # --- the call -------------------------------------------------------------------------

    def run(self) -> Any:
        """Call the function, with the span current; the result may be awaitable."""
        assert self.tool is not None and self.tool.function is not None  # noqa: S101, PT018
        with self.current():
            return self.tool.function(**self._arguments)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Return the block in which the tool works; its span is current, also while awaiting."""
        token = _nesting.set(self._nesting)
        try:
            with self._trace.current():
                yield
        finally:
            with suppress(ValueError):  # without its event loop, a coroutine ends elsewhere
                _nesting.reset(token)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Return the block around the call; an exception of the tool ends the call only.

        Exceptions that stop the task or the program are not suppressed.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - reported to the model, or ends the run
            self.end("failed", _told(error), error=error)

    def returned(self, value: Any) -> None:
        """End the call with the return value of the tool."""
        try:
            text, is_cut = result_text(value, self._most)
        except UnwritableResultError as error:
            self.end("failed", f"The call failed: {error}", error=error, value=value)
            return
        self.end("succeeded", text, value=value, is_cut=is_cut)

    def time_out(self) -> None:
        """End a call that took too long; its later result is ignored."""
        self.end("timed_out", f"The call took more than {self.timeout:g} s.")

    def leave(self) -> None:
        """End the span of a running call, as the telemetry ends."""
        if self.is_open:
            self._trace.end(self._record("cancelled", "", None))

    def end(
        self,
        outcome: ToolOutcome,
        text: str,
        *,
        value: Any = None,
        error: BaseException | None = None,
        is_cut: bool = False,
    ) -> None:
        """End the call; only the first end counts."""
        with self._lock:
            if self._result is not None:
                return
            self._result = ToolCallResult(
                call=self.call,
                outcome=outcome,
                text=text,
                value=value,
                error=error,
                is_cut=is_cut,
                duration=self._clock() - self._began_at,
            )
        self._trace.end(self._record(outcome, text, error))

    def _record(
        self, outcome: ToolOutcome, text: str, error: BaseException | None
    ) -> ToolCallRecord:
        duration = self._clock() - self._began_at
        return ToolCallRecord(
            start=self._start, outcome=outcome, text=text, error=error, duration=duration
        )


def _told(error: Exception) -> str:
    """Return the text about an exception for the model."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything
        message = ""
    kind = type(error).__qualname__
    return clean(f"The call failed: {kind}: {message}" if message else f"The call failed: {kind}")
