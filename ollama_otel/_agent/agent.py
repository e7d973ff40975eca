"""`Agent` with its sync and async shells, which make no decisions and differ by `await` only."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import anyio
import ollama
from anyio.from_thread import BlockingPortal

from ollama_otel._agent.chat import AnswerReader, ChatPart, as_message, user_message
from ollama_otel._agent.job import MOST_NESTED, ToolJob, nesting
from ollama_otel._agent.machine import Ask, AtLimit, End, Limits, OnError, OnLeak
from ollama_otel._agent.session import Plan, Session
from ollama_otel._agent.settings import (
    expect_choice,
    expect_format,
    expect_seconds,
    expect_text,
    expect_whole_number,
    unexpected,
)
from ollama_otel._agent.threads import run_async, run_on_thread, run_on_threads
from ollama_otel._agent.toolbox import AgentTool, Toolbox
from ollama_otel._agent.values import (
    AgentRun,
    Decision,
    EndEvent,
    Event,
    ToolCallEvent,
    ToolResultEvent,
)
from ollama_otel._client_defaults import defaults_of, filled
from ollama_otel._client_instrumentation import instrumentation_of
from ollama_otel.errors import AgentError
from ollama_otel.records import ToolCall

__all__ = [
    "Agent",
    "AgentStream",
    "AsyncAgentStream",
    "BeforeTool",
    "Prompt",
    "ToolLike",
]

ToolLike: TypeAlias = Callable[..., Any] | Mapping[str, Any] | ollama.Tool | AgentTool
"""A function, the schema of a tool, or an `AgentTool`."""
Prompt: TypeAlias = str | ollama.Message | Mapping[str, Any] | None
"""A text of the user, a message, or None to continue the history without one."""
BeforeTool: TypeAlias = Callable[[ToolCall], Decision | Awaitable[Decision]]
"""Decides on a tool call before it is made."""

_CHAT: Final = ("POST", "/api/chat")


class Agent:
    """Calls a model and the tools that it asks for, round after round, until it answers.

    It keeps no state of a run, so several runs can be active at the same time.
    """

    def __init__(  # noqa: PLR0913 - the settings of an agent
        self,
        client: ollama.Client | ollama.AsyncClient,
        model: str = "",
        tools: Sequence[ToolLike] = (),
        *,
        name: str | None = None,
        system: str | None = None,
        max_rounds: int = 10,
        max_tool_calls: int = 100,
        at_limit: AtLimit = "raise",
        on_bad_call: OnError = "tell",
        on_tool_error: OnError = "tell",
        on_leaked_call: OnLeak = "raise",
        before_tool: BeforeTool | None = None,
        tool_timeout: float | None = None,
        max_concurrency: int = 8,
        max_result_size: int = 16_384,
        keep_thinking: bool = False,
        format: Mapping[str, Any] | Literal["", "json"] | None = None,  # noqa: A002 - as in `chat`
        think: bool | Literal["low", "medium", "high"] | None = None,
        options: Mapping[str, Any] | ollama.Options | None = None,
        keep_alive: float | str | None = None,
    ) -> None:
        """Describe the tools to the model; makes no calls.

        Args:
            client: a client for `run` and `stream`, an async one for `arun` and `astream`. Spans
                and metrics of runs use the providers of its calls.
            model: as in `client.chat`; the client's defaults apply to `model`, `options` and
                `keep_alive`.
            tools: functions, sync or async; schemas, whose calls are deferred; or `AgentTool`s.
            name: the agent's name, on spans and metrics. Choose one per agent, not per run.
            system: the system message of each call.
            max_rounds: most calls of the model in one run.
            max_tool_calls: most tool calls in one run.
            at_limit: at one of these limits, `raise`, or request a last `answer` without tools.
            on_bad_call: `tell` the model of unknown tools and invalid arguments, or `raise`.
            on_tool_error: `tell` the model that a tool raised or timed out, or `raise`.
            on_leaked_call: if the text is a tool call that the server did not recognize, `raise`,
                or `recover` it and continue.
            before_tool: gets each valid tool call, one after the other, and returns `Allow()`,
                `Deny(reason)` or `Defer()`; `Allow(arguments)` replaces its arguments.
            tool_timeout: seconds for each tool call. A function on a thread continues to run, and
                its result is ignored.
            max_concurrency: tool calls of one round at the same time. Functions run on threads; in
                `run` and `stream` with 1 they run on the caller's, unless they have a time limit.
            max_result_size: most characters of a result that are sent to the model.
            keep_thinking: whether the model sees its own thinking of earlier rounds.
            format: a JSON schema or "json"; requested in a last round without tools, as a format
                prevents tool calls.
            think: as in `client.chat`.
            options: as in `client.chat`.
            keep_alive: as in `client.chat`.

        Raises `ToolSchemaError` for a tool that cannot be described, `SettingsError` for an invalid
        setting, and `AgentError` for an object that is not a client.
        """
        if not isinstance(client, ollama.Client | ollama.AsyncClient):
            raise AgentError(
                f"expected a Client or an AsyncClient, found {type(client).__qualname__}"
            )
        toolbox = Toolbox(tools)
        model, options, keep_alive = filled(defaults_of(client), model, options, keep_alive)
        if isinstance(options, ollama.Options):
            options = options.model_dump(exclude_none=True)
        needs_last_round = bool(toolbox.names) and (bool(format) or at_limit == "answer")
        expect_text("model", model)
        expect_format(format)
        if name is not None:
            expect_text("name", name)
        if system is not None and not isinstance(system, str):
            raise unexpected("system", "a text", system)
        expect_whole_number("max_rounds", max_rounds, 2 if needs_last_round else 1)
        expect_whole_number("max_tool_calls", max_tool_calls, 0)
        expect_whole_number("max_concurrency", max_concurrency, 1)
        expect_whole_number("max_result_size", max_result_size, 1)
        expect_choice("at_limit", at_limit, AtLimit)
        expect_choice("on_bad_call", on_bad_call, OnError)
        expect_choice("on_tool_error", on_tool_error, OnError)
        expect_choice("on_leaked_call", on_leaked_call, OnLeak)
        if tool_timeout is not None:
            expect_seconds("tool_timeout", tool_timeout)
        if before_tool is not None and not callable(before_tool):
            raise unexpected("before_tool", "a function", before_tool)
        if options is not None and not isinstance(options, Mapping):
            raise unexpected("options", "a mapping", options)
        self._client = client
        self._plan = Plan(
            model=model,
            name=name,
            system=system,
            toolbox=toolbox,
            limits=Limits(
                tools=toolbox.names,
                has_format=bool(format),
                max_rounds=max_rounds,
                max_tool_calls=max_tool_calls,
                at_limit=at_limit,
                on_bad_call=on_bad_call,
                on_tool_error=on_tool_error,
                on_leaked_call=on_leaked_call,
                keeps_thinking=keep_thinking,
            ),
            format=format or None,
            think=think,
            options=options,
            keep_alive=keep_alive,
            before_tool=before_tool,
            tool_timeout=tool_timeout,
            max_result_size=max_result_size,
            max_concurrency=max_concurrency,
        )

    def run(
        self, prompt: Prompt, *, history: Sequence[ollama.Message | Mapping[str, Any]] = ()
    ) -> AgentRun:
        """Return the run when the model has answered, or a tool call is deferred.

        `history` is an earlier conversation, such as `run.history`. Raises `AgentRunError` if the
        run ended without an answer, and the client's exceptions if a call of the model fails.
        """
        with self._stream(prompt, history, streams=False) as stream:
            for _ in stream:
                pass
            return stream.run

    def stream(
        self, prompt: Prompt, *, history: Sequence[ollama.Message | Mapping[str, Any]] = ()
    ) -> AgentStream:
        """Return the events of a run as they come; the iteration raises the exceptions of `run`."""
        return self._stream(prompt, history, streams=True)

    async def arun(
        self, prompt: Prompt, *, history: Sequence[ollama.Message | Mapping[str, Any]] = ()
    ) -> AgentRun:
        """Like `run`, with an async client."""
        async with self._astream(prompt, history, streams=False) as stream:
            async for _ in stream:
                pass
            return stream.run

    def astream(
        self, prompt: Prompt, *, history: Sequence[ollama.Message | Mapping[str, Any]] = ()
    ) -> AsyncAgentStream:
        """Like `stream`, with an async client."""
        return self._astream(prompt, history, streams=True)

    def _stream(self, prompt: Prompt, history: Sequence[Any], *, streams: bool) -> AgentStream:
        if not isinstance(self._client, ollama.Client):
            raise AgentError("the agent has an async client: use `arun` or `astream`")
        session = self._session(prompt, history)
        events = _events(self._client, session, streams=streams)
        return AgentStream(lambda: session.run, events)

    def _astream(
        self, prompt: Prompt, history: Sequence[Any], *, streams: bool
    ) -> AsyncAgentStream:
        if not isinstance(self._client, ollama.AsyncClient):
            raise AgentError("the agent has a sync client: use `run` or `stream`")
        session = self._session(prompt, history)
        events = _aevents(self._client, session, streams=streams)
        return AsyncAgentStream(lambda: session.run, events)

    def _session(self, prompt: Prompt, history: Sequence[Any]) -> Session:
        messages = [as_message(each) for each in history]
        if prompt is not None:
            messages.append(user_message(prompt) if isinstance(prompt, str) else as_message(prompt))
        if not messages:
            raise AgentError("there is nothing to answer: give a prompt, a history, or both")
        if nesting() >= MOST_NESTED:
            raise AgentError(f"agents run as tools of each other, more than {MOST_NESTED} deep")
        return Session(self._plan, instrumentation_of(self._client), messages)


# --- streams ------------------------------------------------------------------------------


class _Stream:
    """What a sync and an async stream of events have in common."""

    def __init__(self, run: Callable[[], AgentRun]) -> None:
        self._run = run

    @property
    def run(self) -> AgentRun:
        """The run so far; complete when it has ended, also with an error."""
        return self._run()


class AgentStream(_Stream, Iterator[Event]):
    """The events of a run; leaving its `with` block stops the run, and frees the server."""

    def __init__(self, run: Callable[[], AgentRun], events: Generator[Event, None, None]) -> None:
        super().__init__(run)
        self._events = events

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Stop the run; has no effect on a run that has ended."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncAgentStream(_Stream, AsyncIterator[Event]):
    """The events of a run; leaving its `async with` block stops it, and frees the server."""

    def __init__(self, run: Callable[[], AgentRun], events: AsyncGenerator[Event, None]) -> None:
        super().__init__(run)
        self._events = events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Stop the run; has no effect on a run that has ended."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


# --- the sync shell -----------------------------------------------------------------------


def _events(client: Any, session: Session, *, streams: bool) -> Generator[Event, None, None]:
    with session.running():
        step = session.begin()
        while not isinstance(step, End):
            if isinstance(step, Ask):
                reader = AnswerReader()
                with closing(_parts(client, session, step, streams=streams)) as parts:
                    for part in parts:
                        yield from reader.heard(part)
                step = session.heard(reader)
                continue
            for call in step.calls:
                yield ToolCallEvent(call)
            jobs = session.jobs(step)
            _decide(session, jobs)
            _call(session, jobs)
            for job in jobs:
                yield ToolResultEvent(job.result)
            step = session.called(jobs)
        run = session.end(step)
    yield EndEvent(run)


def _parts(
    client: Any, session: Session, step: Ask, *, streams: bool
) -> Generator[ChatPart, None, None]:
    body = session.body(step, streams=streams)
    with session.current():
        answer = client._request(ChatPart, *_CHAT, json=body, stream=streams)  # noqa: SLF001
    if not streams:
        yield answer
        return
    with closing(answer):
        with session.current():  # the first part sends the request
            part = next(answer, None)
        while part is not None:
            yield part
            part = next(answer, None)


def _decide(session: Session, jobs: Sequence[ToolJob]) -> None:
    hook = session.plan.before_tool
    for job in jobs:
        if hook is not None and job.is_open:
            with session.deciding():
                decision = hook(job.call)
                if inspect.isawaitable(decision):
                    decision = run_async(decision)
                job.decide(decision)


def _call(session: Session, jobs: Sequence[ToolJob]) -> None:
    waiting, most = session.ready(jobs), session.plan.max_concurrency
    if most > 1 or any(job.timeout is not None for job in waiting):
        run_on_threads(waiting, _call_one, most)
        return
    for job in waiting:
        _call_one(job)


def _call_one(job: ToolJob) -> None:
    with job.running():
        value = job.run()
        if inspect.isawaitable(value):
            with job.current():
                value = run_async(value)
        job.returned(value)


# --- the async shell ----------------------------------------------------------------------


async def _aevents(client: Any, session: Session, *, streams: bool) -> AsyncGenerator[Event, None]:
    with session.running():
        step = session.begin()
        while not isinstance(step, End):
            if isinstance(step, Ask):
                reader = AnswerReader()
                async with aclosing(_aparts(client, session, step, streams=streams)) as parts:
                    async for part in parts:
                        for event in reader.heard(part):
                            yield event
                step = session.heard(reader)
                continue
            for call in step.calls:
                yield ToolCallEvent(call)
            jobs = session.jobs(step)
            await _adecide(session, jobs)
            await _acall(session, jobs)
            for job in jobs:
                yield ToolResultEvent(job.result)
            step = session.called(jobs)
        run = session.end(step)
    yield EndEvent(run)


async def _aparts(
    client: Any, session: Session, step: Ask, *, streams: bool
) -> AsyncGenerator[ChatPart, None]:
    body = session.body(step, streams=streams)
    with session.current():
        answer = await client._request(ChatPart, *_CHAT, json=body, stream=streams)  # noqa: SLF001
    if not streams:
        yield answer
        return
    async with aclosing(answer):
        with session.current():  # the first part sends the request
            part = await anext(answer, None)
        while part is not None:
            yield part
            part = await anext(answer, None)


async def _adecide(session: Session, jobs: Sequence[ToolJob]) -> None:
    hook = session.plan.before_tool
    for job in jobs:
        if hook is not None and job.is_open:
            with session.deciding():
                decision = hook(job.call)
                if inspect.isawaitable(decision):
                    decision = await decision
                job.decide(decision)


async def _acall(session: Session, jobs: Sequence[ToolJob]) -> None:
    waiting, places = session.ready(jobs), anyio.Semaphore(session.plan.max_concurrency)
    stops: list[BaseException] = []
    async with BlockingPortal() as portal, anyio.create_task_group() as group:

        async def call(job: ToolJob) -> None:
            try:
                async with places:
                    await _acall_one(job, portal)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as stop:  # noqa: BLE001 - raised below, and not in a group
                stops.append(stop)
                group.cancel_scope.cancel()

        for job in waiting:
            group.start_soon(call, job)
    for stop in stops:
        raise stop


async def _acall_one(job: ToolJob, portal: BlockingPortal) -> None:
    with anyio.move_on_after(job.timeout) as scope, job.running():
        value = job.run() if job.is_async else await run_on_thread(job.run, portal)
        if inspect.isawaitable(value):
            with job.current():
                value = await value
        job.returned(value)
    if scope.cancelled_caught:
        job.time_out()
