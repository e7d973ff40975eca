"""Every name that goes out stands in one table, and those of the conventions are theirs."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

import ollama_otel
from ollama_otel import Client, instrument_client
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel.context import CallContext, call_context
from ollama_otel.resilience import (
    Breaker,
    Fallback,
    Limiter,
    QueueTimeoutError,
    Resilience,
    Retries,
    make_resilient,
)
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeOllama, Reply
from ollama_otel.tools import Agent

from .call_script import HELLO, JSON, METRICS, WEATHER, Scene, chat, final, part, tool_call

REGISTRY = json.loads((Path(__file__).parents[1] / "data" / "genai-registry.json").read_text())
PACKAGE = Path(ollama_otel.__file__).parent
PROFILES: list[Any] = ["v1.41", "gen-ai-dev"]
FOLDER = TemporaryDirectory()


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item)
            yield key


METRICS_OF = {profile: {row.name for row in rows.instruments_of(profile)} for profile in PROFILES}
TABLE = {text for value in vars(names).values() for text in strings(value)}.union(
    *METRICS_OF.values()
)


@cache
def everything(profile: Any) -> Capture:
    """One of each kind of call, with all there is to tell."""
    capture = Capture()
    settings = Settings(
        profile=profile,
        capture_content="span_and_event",
        time_per_output_chunk=True,
        response_model_on_metrics=True,
        replay_log=f"{FOLDER.name}/calls.jsonl",
    )
    scene = Scene(capture, settings)
    scene.play(
        *(1.0, chat(thinking="Hm"), 1.0, chat("Hi", tool_calls=[tool_call("Rome")])),
        *(1.0, final(remote_model="big", remote_host="https://ollama.com")),
        body={
            "model": "m",
            "messages": [{"role": "user", "content": "Hello", "images": ["aGk="]}],
            "tools": [WEATHER],
            "think": True,
            "format": "json",
            "keep_alive": "5m",
            "truncate": True,
            "options": {
                **dict.fromkeys([*names.FLOAT_OPTIONS, *names.INTEGER_OPTIONS], 1),
                "stop": ["."],
            },
        },
        context=CallContext(conversation_id="c", user_id="u", tags={"team": "blue"}),
    )
    scene.play(
        final(), body={**HELLO, "think": "low", "options": {"num_predict": -1}, "stream": False}
    )
    scene.play(chat("x" * 2_000_000), final())
    scene.play(
        *(1.0, part(response="Hi", done=True, **METRICS)),
        path="/api/generate",
        body={"model": "m", "prompt": "Hi", "system": "Be brief.", "raw": True},
    )
    scene.play(
        b'{"model":"e","embeddings":[[0.1]],"prompt_eval_count":1}',
        path="/api/embed",
        body={"model": "e", "input": ["a"], "dimensions": 2},
        content_type=JSON,
    )
    scene.play(
        *(1.0, b'{"digest":"a","total":9,"completed":1}\n'),
        *(1.0, b'{"digest":"a","total":9,"completed":9}\n', b'{"status":"success"}\n'),
        path="/api/pull",
        body={"model": "m"},
    )
    scene.play(b'{"error":"server busy"}', status=503, content_type=JSON)
    scene.play(chat("x"), final(), stops_after=1)
    scene.play(asyncio.CancelledError())
    resilient_calls(capture, settings)
    _run_an_agent(capture, settings)
    return capture


_alive: list[Resilience] = []
"""Metrics show limiters and breakers as long as they live."""


def resilient_calls(capture: Capture, settings: Settings) -> None:
    """A call that is repeated and falls back, and one that waits and is rejected."""
    limiter = Limiter(concurrency=1, max_wait=0.01)
    policy = Resilience(
        retries=Retries(2, first_wait=0),
        limiter=limiter,
        breaker=Breaker(),
        fallback=[Fallback(host="http://other:1", model="m2")],
    )

    def answer(request: httpx.Request) -> httpx.Response:
        is_first = request.url.host == "first"
        error = {"error": "server busy"}
        return httpx.Response(503 if is_first else 200, json=error if is_first else {"done": True})

    _alive.append(policy)
    options = capture.options | {"settings": settings}
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        instrument_client(make_resilient(client, policy), **options)
        client.post("http://first/api/chat", json=HELLO)
        limiter._enter("http://first:80", None)
        limiter._enter("http://other:1", None)
        with pytest.raises(QueueTimeoutError):
            client.post("http://first/api/chat", json=HELLO)


def _run_an_agent(capture: Capture, settings: Settings) -> None:
    """One tool call that succeeds, and one of a tool that does not exist."""

    def weather(city: str) -> str:
        """Weather of a city."""
        return "rain"

    fake = FakeOllama()
    fake.script(
        "/api/chat",
        Reply.json(
            {
                "model": "llama3.2",
                "message": {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"id": "1", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
                        {"id": "2", "function": {"name": "nothing", "arguments": {}}},
                    ],
                },
                "done": True,
                "prompt_eval_count": 1,
                "eval_count": 1,
            }
        ),
    )
    with fake.serve() as url, Client(url, settings=settings, **capture.options) as client:
        agent = Agent(client, "llama3.2", [weather], name="a", format={"type": "object"})
        with call_context(conversation_id="c", user_id="u", tags={"team": "blue"}):
            agent.run("Hello")


def attributes_of(capture: Capture) -> set[str]:
    found = {name for span in capture.spans for name in span.attributes or {}}
    found |= {name for s in capture.spans for event in s.events for name in event.attributes or {}}
    found |= {name for event in capture.events for name in event.log_record.attributes or {}}
    for points in capture.metrics().values():
        found |= {name for point in points for name in point.attributes}
    return found


def all_of(capture: Capture) -> set[str]:
    events = {str(event.log_record.event_name) for event in capture.events}
    events |= {event.name for span in capture.spans for event in span.events}
    return attributes_of(capture) | set(capture.metrics()) | events


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("profile", PROFILES)
def test_all_that_goes_out_stands_in_the_table(profile: Any) -> None:
    assert all_of(everything(profile)) - TABLE == {"ollama.tag.team"}


# `tests/residency/test_telemetry.py` has the first ones, `tests/enrich/test_truncation.py` those of
# truncation, `tests/real/test_boards.py` the SDK's own. `tests/test_structured.py` has those of
# typed values, which are of several calls, and `tests/enrich/test_cost.py` those of costs.
NOT_OF_CALLS = (
    *("ollama.server.", "ollama.model.", "ollama.reload.", "ollama.truncation", "hw."),
    *("ollama.client.truncations", "otel.sdk."),
    *("ollama.structured.", "ollama.client.structured."),
    *("ollama.cost.", "ollama.client.cost.", "ollama.machine."),
    *("ollama.budget.", "ollama.client.budget."),
)
NOT_OF_CALLS_EITHER = {
    names.UNLOAD_REASON,
    names.MEMORY_TYPE,
    names.COMPONENT_NAME,
    names.COMPONENT_TYPE,
}


@pytest.mark.sockets
def test_all_that_stands_in_the_table_goes_out() -> None:
    seen = set().union(*(all_of(everything(profile)) for profile in PROFILES))
    constants = {
        value
        for name, value in vars(names).items()
        if isinstance(value, str) and name.isupper() and "." in value and value[-1] != "."
    }
    assert len(constants) > 50
    table = constants | set().union(*METRICS_OF.values())
    of_calls = {name for name in table if not name.startswith(NOT_OF_CALLS)} - NOT_OF_CALLS_EITHER
    assert of_calls <= seen
    assert not (table - of_calls) & seen


def emitted_in(metric: str, profile: Any) -> bool:
    """Whether a profile has a metric; those that only the later one defines rename nothing."""
    registered = REGISTRY["metrics"][metric]
    return profile in registered["profiles"] or registered.get("project_default", False)


@pytest.mark.sockets
@pytest.mark.parametrize("profile", PROFILES)
def test_no_name_of_the_conventions_is_invented(profile: Any) -> None:
    capture = everything(profile)
    known = {n for n, row in REGISTRY["attributes"].items() if profile in row["profiles"]}
    # In the default profile too, as nothing there contradicts it: the registry's own proposal.
    known |= {"gen_ai.request.reasoning.level"}
    ours = {name for name in attributes_of(capture) if name.startswith("gen_ai.")}
    assert ours - known == set()
    metrics = {name for name in capture.metrics() if name.startswith("gen_ai.")}
    assert metrics - {name for name in REGISTRY["metrics"] if emitted_in(name, profile)} == set()
    events = {str(event.log_record.event_name) for event in capture.events}
    assert events <= set(REGISTRY["events"])


def test_every_name_in_the_table_that_looks_like_theirs_is_theirs() -> None:
    known = set(REGISTRY["attributes"]) | set(REGISTRY["metrics"]) | set(REGISTRY["events"])
    assert {name for name in TABLE if name.startswith("gen_ai.")} - known == set()


@pytest.mark.sockets
def test_every_other_name_is_of_a_standard_namespace_or_ours() -> None:
    found = attributes_of(everything("v1.41"))
    others = {n for n in found if not n.startswith(("gen_ai.", "ollama."))}
    assert others == {
        "error.type",
        "exception.message",
        "http.response.status_code",
        "server.address",
        "server.port",
        "user.id",
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_the_conventions_instruments_have_their_kind_and_unit(profile: Any) -> None:
    theirs = [row for row in rows.instruments_of(profile) if row.name.startswith("gen_ai.")]
    assert len(theirs) >= 4
    for row in theirs:
        registered = REGISTRY["metrics"][row.name]
        assert emitted_in(row.name, profile), row.name
        assert (row.kind, row.unit) == (registered["instrument"], registered["unit"]), row.name


def test_our_own_instruments_have_these_kinds_and_units() -> None:
    ours = [row for row in rows.instruments_of("v1.41") if row.name.startswith("ollama.")]
    assert {row.name: (row.kind, row.unit, row.buckets is None) for row in ours} == {
        "ollama.client.operation.duration": ("histogram", "s", False),
        "ollama.client.load.duration": ("histogram", "s", False),
        "ollama.client.queue.estimated_duration": ("histogram", "s", False),
        "ollama.client.stream.longest_gap": ("histogram", "s", False),
        "ollama.client.phase.time": ("counter", "s", True),
        "ollama.client.finish_reasons": ("counter", "{call}", True),
        "ollama.client.request.active": ("updowncounter", "{request}", True),
        "ollama.client.transfer.size": ("counter", "By", True),
        "ollama.client.structured.answers": ("counter", "{answer}", True),
        "ollama.client.truncations": ("counter", "{call}", True),
        "ollama.client.limiter.wait": ("histogram", "s", False),
        "ollama.client.limiter.active": ("updowncounter", "{call}", True),
        "ollama.client.limiter.waiting": ("updowncounter", "{call}", True),
        "ollama.client.breaker.open": ("updowncounter", "{circuit}", True),
        "ollama.client.retries": ("counter", "{attempt}", True),
        "ollama.client.fallbacks": ("counter", "{call}", True),
        "ollama.client.rejections": ("counter", "{call}", True),
        "ollama.client.replay_log.dropped": ("counter", "{item}", True),
        "ollama.client.replay_log.pending": ("updowncounter", "{line}", True),
        "ollama.client.replay_log.failed_writes": ("counter", "{write}", True),
        "ollama.client.cost.estimated_amount": ("counter", "{currency}", True),
        "ollama.client.cost.estimated_energy": ("counter", "J", True),
        "ollama.client.cost.estimated_gpu_time": ("counter", "s", True),
        "ollama.client.budget.used": ("counter", "{budget_unit}", True),
        "ollama.client.budget.limit": ("gauge", "{budget_unit}", True),
        "ollama.machine.hourly_cost": ("gauge", "{currency}", True),
        "ollama.server.slots": ("gauge", "{slot}", True),
        "ollama.agent.input_tokens": ("histogram", "{token}", False),
        "ollama.agent.output_tokens": ("histogram", "{token}", False),
        "ollama.server.up": ("gauge", "{server}", True),
        "ollama.server.busy": ("gauge", "{server}", True),
        "ollama.server.info": ("gauge", "{server}", True),
        "ollama.server.model.loaded": ("gauge", "{model}", True),
        "ollama.server.model.installed": ("gauge", "{model}", True),
        "ollama.model.memory.usage": ("gauge", "By", True),
        "ollama.model.gpu.share": ("gauge", "{share}", True),
        "ollama.model.context.length": ("gauge", "{token}", True),
        "ollama.model.expiry.remaining": ("gauge", "s", True),
        "ollama.model.loads": ("counter", "{load}", True),
        "ollama.model.reloads": ("counter", "{reload}", True),
        "ollama.model.unloads": ("counter", "{unload}", True),
        "ollama.model.evictions": ("counter", "{eviction}", True),
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_the_conventions_buckets_are_kept_and_carried_on(profile: Any) -> None:
    for row in rows.instruments_of(profile):
        if not row.name.startswith("gen_ai.") or row.buckets is None:
            continue
        theirs = tuple(REGISTRY["metrics"][row.name]["buckets"])
        assert row.buckets[: len(theirs)] == theirs, row.name
        # Only times go on, as a cold model takes minutes.
        assert row.buckets[len(theirs) :] == (
            (163.84, 327.68, 655.36, 1200.0)
            # Those of runs are long enough.
            if row.unit == "s" and row != rows.AGENT_DURATION
            else ()
        )
        assert list(row.buckets) == sorted(set(row.buckets))


@pytest.mark.parametrize("profile", PROFILES)
def test_the_schema_url_is_the_profiles(profile: Any) -> None:
    assert names.SCHEMA_URLS[profile] == REGISTRY["profiles"][profile]["schema_url"]


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_conventions_require_of_a_span_is_there(profile: Any, capture: Capture) -> None:
    scene = Scene(capture, Settings(profile=profile))
    scene.play(1.0, chat("x"), final())
    scene.play(
        b'{"model":"e","embeddings":[]}',
        path="/api/embed",
        body={"model": "e", "input": "a"},
        content_type=JSON,
    )
    kinds = ("gen_ai.inference.client", "gen_ai.embeddings.client")
    for span, kind in zip(capture.spans, kinds, strict=True):
        rows = REGISTRY["spans"][kind]["attributes"][profile]
        required = {name for name, row in rows.items() if row["level"] == "required"}
        assert required <= set(span.attributes or {})
        assert span.kind.name == REGISTRY["spans"][kind]["kind"]
        allowed = set(rows) | {"http.response.status_code", "gen_ai.request.reasoning.level"}
        theirs = {n for n in span.attributes or {} if not n.startswith("ollama.")}
        assert theirs <= allowed


@pytest.mark.sockets
@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_conventions_require_of_an_agents_spans_is_there(profile: Any) -> None:
    found = {"invoke_agent": 0, "execute_tool": 0}
    for span in everything(profile).spans:
        operation, _, _ = span.name.partition(" ")
        if operation not in found:
            continue
        found[operation] += 1
        kind = REGISTRY["spans"][f"gen_ai.{operation}.internal"]
        attributes = kind["attributes"][profile]
        required = {name for name, row in attributes.items() if row["level"] == "required"}
        assert required <= set(span.attributes or {})
        assert span.kind.name == kind["kind"]
        theirs = {n for n in span.attributes or {} if not n.startswith("ollama.")} - {"user.id"}
        assert theirs <= set(attributes)
        # Back-ends add up the usage of all spans of a trace.
        assert not any(name.startswith("gen_ai.usage.") for name in theirs)
    assert found == {"invoke_agent": 1, "execute_tool": 2}


@pytest.mark.sockets
@pytest.mark.parametrize("profile", PROFILES)
def test_metrics_carry_no_label_that_the_conventions_leave_out(profile: Any) -> None:
    for metric, points in everything(profile).metrics().items():
        if metric not in REGISTRY["metrics"]:
            continue
        allowed = {
            *REGISTRY["metrics"][metric]["attributes"],
            *("ollama.outcome", "ollama.agent.ending", "ollama.tool.outcome"),
        }
        for point in points:
            assert set(point.attributes) <= allowed, metric


@pytest.mark.slow
def test_names_are_written_out_in_the_table_only() -> None:
    looks_like_a_name = re.compile(r"(gen_ai|ollama)\.[a-z_.]*")
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += [
            (path.name, node.value)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and looks_like_a_name.fullmatch(node.value)
        ]
    assert len(found) > 50
    assert {place for place, _ in found} == {"_names.py", "instruments.py"}
