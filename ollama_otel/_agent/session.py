"""One run between the state machine and the shells: requests, tool calls, tracing, and its end.

No I/O: the sync and the async shell call the same methods, and differ by `await` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import ollama
from msgspec import Struct

from ollama_otel import _process
from ollama_otel._agent.chat import AnswerReader, ChatBody
from ollama_otel._agent.job import ToolJob
from ollama_otel._agent.machine import Ask, Call, End, Limits, Machine, Step
from ollama_otel._agent.toolbox import Toolbox
from ollama_otel._agent.trace import GuardedRunTrace
from ollama_otel._agent.values import AgentRun, AgentRunError, ToolCallResult
from ollama_otel._exchange import open_calls
from ollama_otel._exchange.agent_runs import (
    AgentTracing,
    RunEnding,
    RunRecord,
    RunStart,
    ToolCallStart,
)
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._wire.failures import is_cancellation
from ollama_otel.context import current_call_context
from ollama_otel.records import ToolCall

__all__ = ["Plan", "Session"]

_MESSAGES: Final[Mapping[RunEnding, str]] = {
    "max_rounds": "the model asked for tool calls after {max_rounds} rounds: raise "
    "max_rounds{hint}",
    "max_tool_calls": "the model asked for more than {max_tool_calls} tool calls: raise "
    "max_tool_calls{hint}",
    "unknown_tool": "the model called a tool that the agent does not have; it has: {tools}",
    "invalid_arguments": "the model called {tool} with invalid arguments",
    "tool_failed": "the tool {tool} failed",
    "tool_timed_out": "the tool {tool} did not return in time",
    "leaked_tool_call": "the text of the answer is a tool call that the server did not recognize: "
    'the model\'s template may not fit, or use on_leaked_call="recover"',
    "empty_answer": "the model answered with neither text nor tool calls",
    "cut_answer": "the answer was cut: it reached num_predict or the end of the context",
    "incomplete_answer": "the answer ended without its final message",
}

_HINT: Final = ", or use at_limit='answer' for a last answer without tools"


class Plan(Struct, frozen=True, kw_only=True):
    """An agent's settings."""

    model: str
    name: str | None
    system: str | None
    toolbox: Toolbox
    limits: Limits
    format: Any
    think: bool | str | None
    options: Mapping[str, Any] | None
    keep_alive: float | str | None
    before_tool: Callable[[ToolCall], Any] | None
    tool_timeout: float | None
    max_result_size: int
    max_concurrency: int


class Session:
    """One run."""

    def __init__(
        self, plan: Plan, instrumentation: Instrumentation, history: Sequence[ollama.Message]
    ) -> None:
        self.plan = plan
        self._machine = Machine(plan.limits, history)
        self._instrumentation = instrumentation
        self._clock = instrumentation.clock
        self._start = RunStart(model=plan.model)
        self._trace = GuardedRunTrace(AgentTracing(), self._start)
        self._began_at: float | None = None
        self._duration: float | None = None
        self._ending: RunEnding | None = None
        self._asked = 0
        self._jobs: list[ToolJob] = []
        self._is_deciding = False

    @property
    def run(self) -> AgentRun:
        """The run so far."""
        machine = self._machine
        last = machine.rounds[-1] if machine.rounds else None
        duration = self._duration
        if duration is None:
            duration = 0.0 if self._began_at is None else self._clock() - self._began_at
        return AgentRun(
            ending=self._ending,
            text=last.text if last is not None else "",
            rounds=tuple(machine.rounds),
            history=tuple(machine.history),
            thinking_length=machine.thinking_length,
            duration=duration,
        )

    # --- beginning and end ----------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """Return the block around the whole run; leaving it ends the run."""
        self._begin()
        try:
            yield
        except AgentRunError:
            self._finish(is_failure=True)
            raise
        except BaseException as error:
            self._ending = self._interrupted_by(error)
            self._finish(is_failure=self._ending in {"call_failed", "hook_failed"})
            raise
        self._finish(is_failure=False)

    def _begin(self) -> None:
        instrumentation = self._instrumentation
        self._start = RunStart(
            agent=self.plan.name,
            model=self.plan.model,
            context=current_call_context(),
            asks_for_json=self.plan.format is not None,
            started_at=instrumentation.wall_clock(),
        )
        self._began_at = self._clock()
        if not instrumentation.is_suppressed():
            # An end caused by the garbage collector has to be deferred.
            _process.watch_collector()
            _process.catch_up()
            self._trace = GuardedRunTrace(instrumentation.agents, self._start)
        open_calls.add(self)

    def _interrupted_by(self, error: BaseException) -> RunEnding:
        if isinstance(error, GeneratorExit):
            return "abandoned"
        if is_cancellation(error) or not isinstance(error, Exception):
            return "cancelled"
        return "hook_failed" if self._is_deciding else "call_failed"

    def shut_down(self) -> None:
        """End the span, as the telemetry of the process ends during the run; from any thread."""
        if not open_calls.take(self):
            return
        for job in self._jobs:
            job.leave()
        self._hand_over(self._record("cancelled", is_failure=False))

    def _finish(self, *, is_failure: bool) -> None:
        if self._duration is None:
            self._duration = self.run.duration
        for job in self._jobs:
            job.stop()
        if open_calls.take(self):
            ending = self._ending or "call_failed"
            _process.run_or_defer(self._hand_over, self._record(ending, is_failure=is_failure))

    def _hand_over(self, record: RunRecord) -> None:
        try:
            self._trace.end(record)
        finally:
            open_calls.has_ended(self)

    def _record(self, ending: RunEnding, *, is_failure: bool) -> RunRecord:
        run = self.run
        is_counted = self._asked == len(run.rounds)
        return RunRecord(
            start=self._start,
            ending=ending,
            is_failure=is_failure,
            rounds=self._asked,
            tool_calls=len(self._jobs),
            input_tokens=run.input_tokens if is_counted else None,
            output_tokens=run.output_tokens if is_counted else None,
            thinking_length=run.thinking_length,
            duration=run.duration,
        )

    # --- steps ----------------------------------------------------------------------------

    def begin(self) -> Step:
        return self._machine.begin()

    def current(self) -> AbstractContextManager[None]:
        """Return a block in which the span of the run is current."""
        return self._trace.current()

    def body(self, step: Ask, *, streams: bool) -> Mapping[str, Any]:
        """Return the request of a step."""
        plan = self.plan
        self._asked += 1
        system = [] if plan.system is None else [ollama.Message(role="system", content=plan.system)]
        return ChatBody(
            model=plan.model,
            messages=[
                message.model_dump(exclude_none=True)
                for message in (*system, *self._machine.history)
            ],
            tools=plan.toolbox.definitions if step.with_tools else None,
            stream=streams,
            think=plan.think,
            format=plan.format if step.with_format else None,
            options=plan.options,
            keep_alive=plan.keep_alive,
        ).model_dump(exclude_none=True)

    def heard(self, reader: AnswerReader) -> Step:
        return self._machine.heard(reader.answer())

    def jobs(self, step: Call) -> list[ToolJob]:
        """Return the tool calls of a step; the rejected ones have ended."""
        jobs = [self._job(call) for call in step.calls]
        self._jobs += jobs
        for number, job in enumerate(jobs):
            if number >= step.allowed:
                job.refuse(self.plan.limits.max_tool_calls)
            else:
                job.check(self.plan.toolbox.names)
        return jobs

    def _job(self, call: ToolCall) -> ToolJob:
        plan = self.plan
        tool = plan.toolbox.find(call.name)
        start = ToolCallStart(
            call=call,
            is_known=tool is not None,
            description=None if tool is None else tool.description,
            started_at=self._instrumentation.wall_clock(),
        )
        own = None if tool is None else tool.max_result_size
        return ToolJob(
            start,
            tool,
            self._trace.tool(start),
            clock=self._clock,
            timeout=plan.tool_timeout if tool is None or tool.timeout is None else tool.timeout,
            max_result_size=plan.max_result_size if own is None else own,
        )

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Return the block around a decision of `before_tool`, in the context of the run."""
        self._is_deciding = True
        with self._trace.current():
            yield
        self._is_deciding = False

    def ready(self, jobs: Sequence[ToolJob]) -> list[ToolJob]:
        """Return the tool calls to make; those of tools without a function are deferred."""
        for job in jobs:
            if job.is_open and job.has_no_function:
                job.defer()
        return [job for job in jobs if job.is_open]

    def called(self, jobs: Sequence[ToolJob]) -> Step:
        return self._machine.called([job.result for job in jobs])

    def end(self, step: End) -> AgentRun:
        """Return the run if it ended without an error; raises `AgentRunError` otherwise."""
        self._ending = step.ending
        self._duration = self.run.duration
        run = self.run
        if step.is_answer or step.ending == "deferred":
            return run
        failed = next((each for each in run.tool_results if _is_cause(each, step.ending)), None)
        message = _MESSAGES[step.ending].format(
            max_rounds=self.plan.limits.max_rounds,
            max_tool_calls=self.plan.limits.max_tool_calls,
            tools=", ".join(self.plan.toolbox.names) or "none",
            tool="" if failed is None else failed.call.name,
            hint=_HINT if self.plan.limits.at_limit == "raise" else "",
        )
        raise AgentRunError(message, run) from (None if failed is None else failed.error)


def _is_cause(result: ToolCallResult, ending: RunEnding) -> bool:
    return ending in {result.outcome, f"tool_{result.outcome}"}
