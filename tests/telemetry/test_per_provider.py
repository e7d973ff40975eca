"""One object for each provider, also for the one that the API's stand-in turns into."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path

import pytest
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider

from ollama_otel._telemetry.per_provider import PerProvider


class Thing:
    """What is made for a provider."""


class Globals:
    """The global provider and its stand-in, as the API keeps them."""

    def __init__(self) -> None:
        self.reset()
        self.things = PerProvider[MeterProvider, Thing](lambda: self.provider or self.stand_in)

    def reset(self) -> None:
        self.stand_in: MeterProvider = _ProxyMeterProvider()
        self.provider: MeterProvider | None = None

    def thing(self, provider: MeterProvider | None = None) -> Thing:
        return self.things.get(provider, Thing)


def test_a_provider_has_one_object_and_another_has_its_own() -> None:
    api, one, other = Globals(), NoOpMeterProvider(), NoOpMeterProvider()
    assert api.thing(one) is api.thing(one)
    assert api.thing(one) is not api.thing(other)
    assert api.thing() is api.thing()
    assert api.thing() is not api.thing(one)


def test_the_stand_in_and_the_provider_that_is_set_later_share_one() -> None:
    api = Globals()
    early = api.thing()
    api.provider = NoOpMeterProvider()
    assert api.thing() is early
    assert api.thing(api.provider) is early
    assert api.thing(api.stand_in) is early
    assert api.thing(NoOpMeterProvider()) is not early


def test_each_global_provider_has_its_own_after_a_reset() -> None:
    api = Globals()
    seen = [api.thing()]
    for _ in range(2):
        api.provider = NoOpMeterProvider()
        seen.append(api.thing())
        api.reset()
    first, second, third = seen
    assert first is second
    assert third is not first


def test_a_reset_that_nothing_was_made_for_is_seen_too() -> None:
    api = Globals()
    early = api.thing()
    api.provider = NoOpMeterProvider()
    api.reset()
    api.provider = NoOpMeterProvider()
    assert api.thing() is not early


@pytest.mark.slow
def test_an_object_goes_with_its_provider() -> None:
    api, provider = Globals(), NoOpMeterProvider()
    thing = weakref.ref(api.thing(provider))
    assert thing() is not None
    del provider
    gc.collect()
    assert thing() is None


def test_threads_that_ask_at_once_get_the_same() -> None:
    api, seen = Globals(), list[Thing]()
    barrier = threading.Barrier(8)
    made = list[Thing]()

    def make() -> Thing:
        made.append(Thing())
        return made[-1]

    def ask() -> None:
        barrier.wait()
        seen.append(api.things.get(None, make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert seen == made * 8


@pytest.mark.processes
def test_the_api_s_own_globals_behave_so() -> None:
    """Pins what is private in opentelemetry-api 1.39 to 1.45: stand-ins and their reset."""
    script = """
        import json
        from opentelemetry import metrics, trace
        from opentelemetry._logs import _internal as logs_api
        from opentelemetry.metrics import _internal as metrics_api
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.util._once import Once
        from ollama_otel._telemetry.per_provider import PerProvider, is_stand_in

        def are_stand_ins():
            return [
                is_stand_in(trace.get_tracer_provider()),
                is_stand_in(metrics.get_meter_provider()),
                is_stand_in(logs_api.get_logger_provider()),
            ]

        def set_meter_provider():
            reader = InMemoryMetricReader()
            metrics.set_meter_provider(MeterProvider([reader]))
            return reader

        def counted(reader):
            counters().add(1)
            data = reader.get_metrics_data()
            points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
            return [point.value for point in points]

        def counters():
            return registry.get(None, lambda: metrics.get_meter("test").create_counter("calls"))

        registry = PerProvider(metrics.get_meter_provider)
        counters()
        told = [are_stand_ins()]
        first = set_meter_provider()
        trace.set_tracer_provider(TracerProvider())
        logs_api.set_logger_provider(LoggerProvider())
        told += [are_stand_ins(), counted(first), counted(first)]
        # As opentelemetry.test.globals_test does it.
        metrics_api._METER_PROVIDER_SET_ONCE = Once()
        metrics_api._METER_PROVIDER = None
        metrics_api._PROXY_METER_PROVIDER = metrics_api._ProxyMeterProvider()
        second = set_meter_provider()
        told += [counted(second)]
        print(json.dumps(told))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == [[True] * 3, [False] * 3, [1], [2], [1]]
