"""Any call: strategies for records, with unknown facts and all kinds of known ones."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_otel._frozen import FrozenDict
from ollama_otel._wire.endpoints import ENDPOINTS
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallCost,
    CallRecord,
    CallStart,
    Ending,
    ErrorType,
    ModelResidency,
    Outcome,
    Progress,
    RequestFacts,
    ResponseFacts,
    SpanIds,
    Truncation,
    TruncationCertainty,
    TruncationKind,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
seconds = st.integers(0, 10**12).map(lambda microseconds: microseconds / 1e6)
count = st.integers(0, 2**53)
nanoseconds = st.integers(0, 2**60).map(lambda number: number / 1e9)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


requests = st.builds(
    RequestFacts,
    model=maybe(text),
    stream=st.booleans(),
    purpose=st.sampled_from(["call", "load", "unload"]),
    options=st.dictionaries(text, st.integers() | text | st.booleans(), max_size=3).map(FrozenDict),
    think=maybe(st.booleans() | text),
    keep_alive=maybe(text),
    asks_for_json=st.booleans(),
    raw=maybe(st.booleans()),
    truncate=maybe(st.booleans()),
    dimensions=maybe(count),
    input_count=maybe(count),
    image_count=count,
    tools=st.lists(text, max_size=3).map(tuple),
    size=maybe(count),
)
responses = st.builds(
    ResponseFacts,
    model=maybe(text),
    remote_model=maybe(text),
    remote_host=maybe(text),
    done=st.booleans(),
    done_reason=maybe(text),
    input_tokens=maybe(count),
    output_tokens=maybe(count),
    total_duration=maybe(nanoseconds),
    load_duration=maybe(nanoseconds),
    prompt_eval_duration=maybe(nanoseconds),
    eval_duration=maybe(nanoseconds),
    tool_calls=st.lists(text, max_size=3).map(tuple),
    has_thinking=st.booleans(),
    error=maybe(text),
)
progresses = st.builds(
    Progress, total_bytes=maybe(count), moved_bytes=maybe(count), moving_time=maybe(seconds)
)
residencies = st.builds(
    ModelResidency,
    gpu_share=maybe(st.sampled_from([0.0, 0.25, 1.0])),
    model_size=maybe(count),
    model_gpu_size=maybe(count),
    context_length=maybe(count),
    reload_cause=maybe(text),
    reload_before=maybe(text),
    reload_after=maybe(text),
    evicted_by=maybe(text),
)
spans = st.builds(
    SpanIds,
    trace=st.integers(1, 2**128 - 1),
    span=st.integers(1, 2**64 - 1),
    is_sampled=st.booleans(),
)
starts = st.builds(
    CallStart,
    endpoint=st.sampled_from([row for row in ENDPOINTS if not row.path.endswith("*")]),
    request=requests,
    server_address=maybe(text),
    server_port=maybe(st.integers(1, 65535)),
    server_scheme=maybe(st.sampled_from(["http", "https"])),
    started_at=st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds * 1000),
    context=st.builds(
        CallContext,
        conversation_id=maybe(text),
        user_id=maybe(text),
        tags=st.dictionaries(text, text, max_size=2).map(FrozenDict),
    ),
    span=maybe(spans),
).map(lambda start: replace(start, path=start.endpoint.path))
truncations = st.builds(
    Truncation,
    kind=maybe(st.sampled_from(get_args(TruncationKind))),
    certainty=maybe(st.sampled_from(get_args(TruncationCertainty))),
    context_length=maybe(count),
    prompt_tokens=maybe(count),
    lost_tokens=maybe(count),
    dropped_messages=maybe(count),
)
costs = st.builds(
    CallCost,
    estimate=maybe(seconds),
    currency=maybe(st.sampled_from(["EUR", "USD"])),
    energy_estimate=maybe(seconds),
    gpu_seconds_estimate=maybe(seconds),
)
records = st.builds(
    CallRecord,
    start=starts,
    outcome=st.sampled_from(get_args(Outcome)),
    ending=st.sampled_from(get_args(Ending)),
    error_type=maybe(st.sampled_from(get_args(ErrorType))),
    error_message=maybe(text),
    exception_type=maybe(text),
    http_status=maybe(st.integers(100, 599)),
    response=responses,
    duration=seconds,
    time_to_first_chunk=maybe(seconds),
    time_to_first_answer=maybe(seconds),
    chunk_count=count,
    longest_gap=maybe(seconds),
    held_by_caller=maybe(seconds),
    response_size=count,
    cold_start=maybe(st.booleans()),
    progress=progresses,
    residency=residencies,
    truncation=truncations,
    cost=costs,
    is_from_network=st.booleans(),
    content_type=maybe(st.sampled_from(["application/json", "application/x-ndjson"])),
    content_encoding=maybe(st.just("gzip")),
)
