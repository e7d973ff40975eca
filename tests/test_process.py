"""One module owns the hooks of the process, and registers each at its first use, once."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import ollama_otel
from ollama_otel import _process
from ollama_otel._guard import guard
from ollama_otel._process import catch_up, run_or_defer, watch_collector

PACKAGE = Path(ollama_otel.__file__).parent
HOOKS = {("atexit", "register"), ("gc", "callbacks"), ("os", "register_at_fork")}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

RECORD_HOOKS = """
import atexit, gc, os, sys

registered = []

def recorded(module, name):
    register = getattr(module, name)

    def record(*arguments, **options):
        caller = sys._getframe(1).f_globals["__name__"]
        registered.append(f"{caller} {name}")
        return register(*arguments, **options)

    setattr(module, name, record)

recorded(atexit, "register")
if hasattr(os, "register_at_fork"):
    recorded(os, "register_at_fork")
before = list(gc.callbacks)

def ours():
    added = [f"{each.__module__} gc" for each in gc.callbacks if each not in before]
    return sorted(each for each in [*registered, *added] if each.startswith("ollama_otel"))
"""


def run(*scripts: str) -> list[str]:
    """Run scripts as one program in a process of its own and return the lines it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(map(textwrap.dedent, scripts))],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


# --- who registers hooks, and when ------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize(
    "module",
    [
        "ollama_otel",
        "ollama_otel.client",
        "ollama_otel.instrumentor",
        "ollama_otel.pytest_plugin",
        "ollama_otel.replay",
        "ollama_otel.residency",
        "ollama_otel._telemetry.setup",
    ],
)
def test_an_import_registers_nothing(module: str) -> None:
    assert run(RECORD_HOOKS, f"import {module}; print(ours())") == ["[]"]


@pytest.mark.processes
def test_each_hook_is_registered_once_and_when_something_needs_it() -> None:
    said = run(
        RECORD_HOOKS,
        """
        import tempfile
        from ollama_otel import Client
        from ollama_otel.replay import ReplayLog
        from ollama_otel.residency import Residency
        from ollama_otel.testing import Capture, FakeOllama

        print(ours())
        clients = [Client(transport=FakeOllama().transport(), **Capture().options) for _ in "123"]
        residencies = [Residency() for _ in "123"]
        print(ours())
        clients[0].list()
        print(ours())
        folder = tempfile.TemporaryDirectory()
        logs = [ReplayLog(f"{folder.name}/{number}") for number in range(3)]
        clients[0].list()
        print(ours())
        """,
    )
    has_fork = hasattr(os, "fork")
    fork = ["ollama_otel._process register_at_fork"] if has_fork else []
    everything = ["ollama_otel._process gc", "ollama_otel._process register", *fork]
    assert said == ["[]", str(fork), str(everything), str(everything)]


def hooks_named_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (owner, node.attr) in HOOKS or node.attr == "Finalize":
                yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (
                each.name
                for each in node.names
                if (node.module, each.name) in HOOKS or each.name == "Finalize"
            )


def test_no_other_module_names_a_hook() -> None:
    owners = {path.name: set(hooks_named_in(path)) for path in PACKAGE.rglob("*.py")}
    assert {name: hooks for name, hooks in owners.items() if hooks} == {
        "_process.py": {"register", "callbacks", "register_at_fork", "Finalize"}
    }


# --- callbacks --------------------------------------------------------------------------------


@pytest.mark.processes
@needs_fork
def test_callbacks_run_in_the_order_of_the_interpreter_s_own() -> None:
    said = run(
        """
        import os
        from functools import partial
        from ollama_otel import _process

        say = partial(print, flush=True)
        for number in (1, 2):
            _process.at_fork(
                before=partial(say, "before", number), after_in_child=partial(say, "child", number)
            )
            _process.at_exit(partial(say, "exit", number))
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        """
    )
    assert said == ["before 2", "before 1", "child 1", "child 2", "exit 2", "exit 1"]


@pytest.mark.processes
def test_a_callback_that_is_added_again_runs_once() -> None:
    said = run(
        """
        from ollama_otel import _process

        def goodbye():
            print("goodbye")

        _process.at_exit(goodbye)
        _process.at_exit(goodbye)
        """
    )
    assert said == ["goodbye"]


class Owner:
    def __init__(self) -> None:
        self.calls = 0

    def call(self) -> None:
        self.calls += 1


@pytest.mark.processes
def test_a_method_is_called_as_long_as_its_object_lives() -> None:
    callbacks, kept, dropped = _process._Callbacks(), Owner(), Owner()
    callbacks.add(kept.call)
    callbacks.add(kept.call)
    callbacks.add(dropped.call)
    del dropped
    gc.collect()
    assert len(callbacks._entries) == 1
    callbacks.run("testing")
    assert kept.calls == 1


@pytest.mark.processes
def test_a_callback_that_raises_does_not_stop_the_others(quiet_guard: None) -> None:
    callbacks, owner = _process._Callbacks(), Owner()

    def fail() -> None:
        raise ValueError("no")

    callbacks.add(fail)
    callbacks.add(owner.call)
    callbacks.run("testing")
    assert owner.calls == 1
    assert guard.faults == {"testing: ValueError": 1}


# --- the garbage collector --------------------------------------------------------------------


class Ring:
    """Garbage that only the collector finds; adds to a list when it is collected."""

    def __init__(self, calls: list[str]) -> None:
        self.me = self
        self.calls = calls

    def __del__(self) -> None:
        run_or_defer(self.calls.append, "collected")


def test_what_the_collector_starts_runs_at_the_next_chance() -> None:
    watch_collector()
    calls: list[str] = []
    Ring(calls)
    gc.collect()
    assert calls == []
    catch_up()
    assert calls == ["collected"]


def test_anything_else_runs_at_once() -> None:
    watch_collector()
    calls: list[str] = []
    run_or_defer(calls.append, "now")
    assert calls == ["now"]


def test_catching_up_in_the_collector_does_nothing() -> None:
    watch_collector()
    calls: list[str] = []

    class CatchUp(Ring):
        def __del__(self) -> None:
            super().__del__()
            catch_up()

    CatchUp(calls)
    gc.collect()
    assert calls == []
    catch_up()
    assert calls == ["collected"]


ABANDON_A_STREAM = """
import gc, os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from ollama_otel import Client
from ollama_otel.testing import FakeOllama

class Printer(SpanExporter):
    is_shut_down = False

    def export(self, spans):
        print(WHO, *[span.name for span in spans], self.is_shut_down, flush=True)
        return SpanExportResult.SUCCESS

    def shutdown(self):
        self.is_shut_down = True

WHO = "parent"
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Printer()))
client = Client(transport=FakeOllama().transport(), tracer_provider=provider)
stream = client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}], stream=True)
next(stream)
ring = [stream]
ring.append(ring)
del stream, ring
gc.collect()
"""


@pytest.mark.processes
def test_a_stream_that_the_collector_ended_last_is_exported_at_exit() -> None:
    assert run(ABANDON_A_STREAM, "print('exit')") == ["exit", "parent chat llama3.2 False"]


@pytest.mark.processes
@needs_fork
def test_a_child_leaves_deferred_ends_to_its_parent() -> None:
    said = run(
        ABANDON_A_STREAM,
        """
        child = os.fork()
        if child == 0:
            WHO = "child"
            client.list()
            os._exit(0)
        os.waitpid(child, 0)
        """,
    )
    assert said == ["child list_models False", "parent chat llama3.2 False"]
