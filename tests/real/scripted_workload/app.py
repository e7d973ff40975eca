"""An app that makes every kind of call: `python app.py PLAN.json`; the file contains a `Plan`.

It uses the public API only, writes what its observer saw of each call into a file, prints
one line, and runs until its standard input is closed, so that its metrics can be scraped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from ollama import ResponseError
from opentelemetry import trace

from ollama_otel import (
    AsyncClient,
    CallFollower,
    CallRecord,
    CallStart,
    Client,
    call_context,
    configure,
)
from ollama_otel.resilience import (
    Breaker,
    CallRejectedError,
    Fallback,
    Limiter,
    Resilience,
    Retries,
)
from ollama_otel.tools import Agent, AgentRunError

EVICTION_CYCLES = 3
"""Times per round that two models evict each other."""
AGENT, THINKER, EMBED = "tiny-agent", "tiny-thinker", "tiny-embed"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Current weather",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}
LONG_LIST = {"type": "array", "items": {"enum": ["sun", "moon", "tide"]}, "minItems": 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Addresses and files of the app."""

    service: str
    collector: str
    """Base URL that receives its spans and metrics."""
    scrape: str
    """`HOST:PORT` of its scrape endpoint."""
    server: str
    """URL of its own server."""
    server_pid: int
    narrow_server: str
    """URL of a server with room for one model."""
    dead_server: str
    """URL where nothing listens."""
    registry: str
    """`HOST:PORT` of a registry that has every model."""
    log: str
    """File for the replay log."""
    prices: str
    """The price file."""
    records: str
    """File to which it writes one `Fact` per line."""
    rounds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One call as seen by the observer of the app; times in seconds."""

    trace_id: str
    span_id: str
    operation: str
    """As named in metrics, for inference and management."""
    is_inference: bool
    is_completion: bool
    model: str | None
    address: str | None
    port: int | None
    outcome: str
    error_type: str | None
    duration: float
    time_to_first_chunk: float | None
    longest_gap: float | None
    load_duration: float | None
    queue_estimate: float | None
    input_tokens: int | None
    output_tokens: int | None
    phases: dict[str, float]
    moved_bytes: int | None
    finish_reason: str | None
    num_ctx: int | None
    """As sent."""


class CallWriter:
    """Observer that keeps a `Fact` of every call."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def begin(self, start: CallStart) -> CallFollower:
        return _CallWriterFollower(self)


class _CallWriterFollower(CallFollower):
    def __init__(self, writer: CallWriter) -> None:
        self._writer = writer

    def end(self, record: CallRecord) -> None:
        start, response = record.start, record.response
        moves_the_model = start.request.purpose != "call"
        is_inference = start.endpoint.genai_operation is not None and not moves_the_model
        operation = start.endpoint.genai_operation if is_inference else start.endpoint.name
        # Observers run while the span of the call is current.
        context = trace.get_current_span().get_span_context()
        self._writer.facts.append(
            Fact(
                trace_id=trace.format_trace_id(context.trace_id),
                span_id=trace.format_span_id(context.span_id),
                operation=f"{start.request.purpose}_model" if moves_the_model else operation or "",
                is_inference=is_inference,
                is_completion=start.endpoint.response == "completion",
                model=start.request.model,
                address=record.resilience.server_address or start.server_address,
                port=record.resilience.server_port or start.server_port,
                outcome=record.outcome,
                error_type=record.error_type,
                duration=record.duration,
                time_to_first_chunk=record.time_to_first_chunk,
                longest_gap=record.longest_gap,
                load_duration=response.load_duration,
                queue_estimate=record.queue_estimate,
                input_tokens=response.input_tokens,
                output_tokens=response.output_tokens,
                phases=dict(record.phases),
                num_ctx=start.request.options.get("num_ctx"),
                moved_bytes=record.progress.moved_bytes,
                finish_reason=record.finish_reason,
            )
        )


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@contextlib.contextmanager
def expecting(*errors: type[BaseException]) -> Iterator[None]:
    """A step that has to fail."""
    try:
        yield
    except errors:
        return
    message = f"expected {' or '.join(error.__name__ for error in errors)}, and nothing was raised"
    raise AssertionError(message)


def wait_until(is_so: Any, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


class App:
    """The steps of the workload, one per kind of event."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.client = Client(plan.server)
        self.narrow = Client(plan.narrow_server)
        self.dead = Client(plan.dead_server)
        self.policy = Resilience(
            retries=Retries(2, first_wait=0),
            limiter=Limiter(concurrency=1, max_wait=0.05),
            breaker=Breaker(),
            fallback=[Fallback(host=plan.server)],
        )

    def ordinary_calls(self) -> None:
        client = self.client
        with call_context(conversation_id="the-workload", tags={"kind": "ordinary"}):
            for question in ("Hello", "Why is the sky blue?", "What is OpenTelemetry?"):
                client.chat(AGENT, messages=asked(question))
            for question in ("Tell me a story.", "Count to twenty."):
                list(client.chat(AGENT, messages=asked(question), stream=True))
        client.generate(AGENT, "Hello")
        list(client.generate(AGENT, "Write a short poem about programming.", stream=True))
        client.chat(AGENT, messages=asked("Tell me a story."), options={"num_predict": 3})
        client.embed(EMBED, ["one", "two", "three"])
        client.embeddings(EMBED, "one")
        list(client.chat(THINKER, messages=asked("Why is the sky blue?"), stream=True))
        question = "Compare the weather in Paris and Tokyo."
        list(client.chat(AGENT, messages=asked(question), tools=[WEATHER], stream=True))
        client.chat(AGENT, messages=asked("Extract the product."), format="json")

    def agents(self) -> None:
        def get_current_weather(location: str) -> str:
            """Current weather."""
            return "18 C, sunny"

        def multiply(a: int, b: int) -> int:
            """Multiply two numbers."""
            raise OverflowError

        agent = Agent(self.client, AGENT, [get_current_weather, multiply], name="helper")
        agent.run("Compare the weather in Paris and Tokyo.")
        agent.run("What is 12 * 7?")
        hurried = Agent(self.client, AGENT, [get_current_weather], name="hurried", max_rounds=3)
        with expecting(AgentRunError):
            hurried.run("Keep watching the weather in Paris.")

    def resilient_calls(self) -> None:
        hello = asked("Hello")
        with Client(self.plan.dead_server, resilience=self.policy) as client:
            client.chat(AGENT, messages=hello)
        alone = Resilience(limiter=self.policy.limiter)
        with Client(self.plan.server, resilience=alone) as client:
            stream = client.chat(AGENT, messages=hello, stream=True)
            next(stream)
            with expecting(CallRejectedError):
                client.chat(AGENT, messages=hello)
            list(stream)

    def streams_that_end_early(self) -> None:
        # The server may never free the slot of a stream that was left. Each of these has another
        # `num_ctx` than the next call, for which the server starts a new engine with a free slot.
        for _ in range(2):
            stream = self.client.chat(AGENT, messages=asked("Tell me a story."), stream=True)
            next(iter(stream))
            stream.close()
            asyncio.run(self._cancelled())

    async def _cancelled(self) -> None:
        async with AsyncClient(self.plan.server) as client:
            begun = asyncio.Event()

            async def read() -> None:
                options = {"num_ctx": 2048}
                stream = await client.chat(
                    AGENT,
                    messages=asked("Tell me a story."),
                    format=LONG_LIST,
                    options=options,
                    stream=True,
                )
                async for _ in stream:
                    begun.set()

            task = asyncio.create_task(read())
            await begun.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def errors(self) -> None:
        client, hi = self.client, asked("Hi")
        for _ in range(2):
            with expecting(ResponseError):
                client.chat("absent", messages=hi)
        with expecting(ResponseError):
            client.chat(AGENT, messages=hi, think=True)
        with expecting(ResponseError):
            client.embed(AGENT, "Hi")
        with expecting(ResponseError):
            client.embed(EMBED, "word " * 3000, truncate=False)
        with expecting(ResponseError):
            client.chat(AGENT, messages=hi, options={"stop": "."})
        for _ in range(3):
            with expecting(ConnectionError):
                self.dead.chat(AGENT, messages=hi)
        with expecting(ResponseError):
            list(client.pull("127.0.0.1:1/library/absent", stream=True))
        client.generate(AGENT, keep_alive=0)
        # A load takes longer than that.
        with Client(self.plan.server, timeout=0.05) as hasty, expecting(httpx.TimeoutException):
            hasty.chat(AGENT, messages=hi)

    def engine_dies(self) -> None:
        stream = self.client.chat(
            AGENT,
            messages=asked("Tell me a story."),
            format=LONG_LIST,
            options={"num_ctx": 2048},
            stream=True,
        )
        # Sometimes the server just ends the stream, which the official client takes for a normal end.
        with contextlib.suppress(ResponseError):
            for number, _ in enumerate(stream):
                if number == 0:
                    self._kill_engines()

    def _kill_engines(self) -> None:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            pid, parent = map(int, line.split())
            if parent == self.plan.server_pid:
                os.kill(pid, signal.SIGKILL)

    def queue(self) -> None:
        self.client.chat(AGENT, messages=asked("Hello"))
        with ThreadPoolExecutor(8) as pool:
            calls = [
                pool.submit(self.client.chat, AGENT, messages=asked("Tell me a story."))
                for _ in range(8)
            ]
            for call in calls:
                call.result()

    def thrash(self) -> None:
        for num_ctx in (512, 1024) * 2:
            self.client.chat(AGENT, messages=asked("Hello"), options={"num_ctx": num_ctx})

    def evictions(self) -> None:
        for _ in range(EVICTION_CYCLES):
            self.narrow.chat(AGENT, messages=asked("Hello"))
            self.narrow.embed(EMBED, "one")

    def expiry(self) -> None:
        self.client.embed(EMBED, "one", keep_alive=0.3)
        wait_until(
            lambda: all(
                not str(model.model).startswith(EMBED) for model in self.client.ps().models
            ),
            "an idle model to be unloaded",
        )

    def management(self, number: int) -> None:
        client, name = self.client, f"copied-{number}"
        client.list()
        client.ps()
        client.show(AGENT)
        client.copy(AGENT, name)
        client.create(f"{name}-2", from_=AGENT, system="Hi.")
        client.delete(name)
        client.delete(f"{name}-2")
        pulled = f"{self.plan.registry}/library/{name}"
        client.pull(pulled, insecure=True)
        list(client.pull(f"{pulled}-2", insecure=True, stream=True))
        client.delete(pulled)
        client.delete(f"{pulled}-2")
        client.generate(AGENT)
        client.embed(EMBED, "")
        client.generate(AGENT, keep_alive=0)


def run(plan: Plan) -> None:
    writer = CallWriter()
    telemetry = configure(
        service_name=plan.service,
        endpoint=plan.collector,
        export_interval=1.0,
        prometheus=plan.scrape,
        observers=[writer],
        replay_log=plan.log,
        residency=True,
        residency_interval=0.2,
        prices=plan.prices,
        time_per_output_chunk=True,
    )
    app = App(plan)
    for number in range(plan.rounds):
        app.ordinary_calls()
        app.agents()
        app.resilient_calls()
        app.streams_that_end_early()
        app.errors()
        app.engine_dies()
        app.queue()
        app.thrash()
        app.evictions()
        app.expiry()
        app.management(number)
        for _ in range(2):
            telemetry.flush()
            with call_context(tags={"batch": "lost on the way"}):
                app.client.list()
        telemetry.flush()
    with Path(plan.records).open("w") as file:
        file.writelines(json.dumps(asdict(fact)) + "\n" for fact in writer.facts)
    telemetry.flush()
    print("ended", flush=True)
    sys.stdin.read()
    telemetry.shutdown()


if __name__ == "__main__":
    run(Plan(**json.loads(Path(sys.argv[1]).read_text())))
