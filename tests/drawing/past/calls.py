"""Calls, told to the library's own recorder with values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator

from ollama_otel._enrich.cost import CostEnricher
from ollama_otel._exchange.exchange import Exchange
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._prices.reading import prices_of
from ollama_otel._telemetry.instrumentation import build_instrumentation
from ollama_otel._telemetry.metrics import MetricObserver
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.native import NATIVE
from ollama_otel.context import CallContext
from ollama_otel.records import CallResilience, CallStart
from ollama_otel.settings import Settings
from tests.drawing.past.clock import Happening, VirtualClock
from tests.drawing.past.machines import Server
from tests.exchange.shell import as_shell
from tests.telemetry.call_script import JSON, NDJSON

Steps = Iterable[tuple[float, bytes | BaseException]]
"""Pieces of a body, each after so many seconds; an exception breaks it off."""


class _Ids(IdGenerator):
    """Ids that are the same in each run."""

    def __init__(self, random: Any) -> None:
        self._random = random

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128) or 1


class Recorder:
    """Records calls in virtual time, as a client's shells do."""

    def __init__(
        self, clock: VirtualClock, meter_provider: Any, settings: Settings, random: Any
    ) -> None:
        built = build_instrumentation(
            tracer_provider=TracerProvider(shutdown_on_exit=False, id_generator=_Ids(random)),
            meter_provider=meter_provider,
            settings=settings,
        )
        self.clock = clock
        self.instrumentation: Instrumentation = replace(
            built,
            clock=clock,
            wall_clock=lambda: int(clock.now * 1e9),
            enrichers=(CostEnricher(prices_of(settings.cost.prices), clock),)
            if settings.cost.prices
            else (),
        )
        [self.metrics] = [
            each for each in self.instrumentation.observers if isinstance(each, MetricObserver)
        ]

    def begin(
        self,
        server: Server,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        method: str = "POST",
        context: CallContext | None = None,
        resilience: CallResilience | None = None,
    ) -> Exchange:
        endpoint = find_endpoint(method, path)
        assert endpoint is not None
        call = Exchange(
            self.instrumentation,
            CallStart(
                endpoint=endpoint,
                request=NATIVE.read_request(endpoint, body, size=len(json.dumps(body))),
                server_address=server.host,
                server_port=server.port,
                server_scheme="http",
                is_for_network=True,
                started_at=self.instrumentation.wall_clock(),
                context=context or CallContext(),
            ),
        )
        if resilience is not None:
            call.add_section(lambda _: resilience)
        return call

    def answer(
        self, call: Exchange, steps: Steps, *, status: int = 200, content_type: str = NDJSON
    ) -> Happening:
        """Receive a body, piece by piece."""
        # The head comes with the first piece.
        call.head(status, content_type=content_type, content_encoding="", is_from_network=True)
        ends = (GeneratorExit, Exception, asyncio.CancelledError)
        with suppress(*ends), call.receiving() as inlets:
            feed, pulled = as_shell(inlets)
            pulled()
            for wait, piece in steps:
                yield wait
                if isinstance(piece, BaseException):
                    raise piece
                feed(piece)
                pulled()
        call.close()

    def document(self, call: Exchange, wait: float, answer: Any, *, status: int = 200) -> Happening:
        """Receive a body in one piece."""
        return self.answer(
            call, [(wait, json.dumps(answer).encode())], status=status, content_type=JSON
        )

    def refuse(self, call: Exchange, wait: float, error: BaseException) -> Happening:
        """Fail before the response's head."""
        yield wait
        with suppress(BaseException), call.sending():
            raise error
        call.close()


def later(make: Callable[[], Happening]) -> Happening:
    """Begin something when its time has come, not when it is planned."""
    yield from make()
