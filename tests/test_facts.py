"""The table of facts: one row is enough for a fact to be everywhere."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from ollama_otel import _names as names
from ollama_otel._facts import FACTS, Fact, FactTable
from ollama_otel._log.format import end_line, request_line
from ollama_otel._telemetry import spans as spans_module
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallRecord,
    CallStart,
    ModelResidency,
    Progress,
    RequestFacts,
    ResponseFacts,
    SpanIds,
)

CHAT = find_endpoint("POST", "/api/chat")
assert CHAT is not None
RECORD = CallRecord(
    start=CallStart(
        endpoint=CHAT,
        request=RequestFacts(
            model="m",
            stream=True,
            options={"temperature": 0.5, "stop": ("a",)},
            think="low",
            keep_alive="5m",
            asks_for_json=True,
            input_count=2,
            image_count=1,
            tools=("f",),
            size=64,
        ),
        server_address="127.0.0.1",
        server_port=11434,
        server_scheme="http",
        path="/api/chat",
        started_at=1_700_000_000_000_000_000,
        context=CallContext(conversation_id="c", user_id="u", tags={"team": "blue"}),
        span=SpanIds(trace=1, span=2, is_sampled=True),
    ),
    outcome="completed",
    ending="final_message",
    http_status=200,
    response=ResponseFacts(
        model="m",
        done=True,
        done_reason="stop",
        input_tokens=10,
        output_tokens=30,
        total_duration=2.0,
        load_duration=0.5,
        prompt_eval_duration=0.25,
        eval_duration=0.75,
        tool_calls=("f",),
    ),
    duration=2.5,
    time_to_first_chunk=1.0,
    chunk_count=3,
    response_size=100,
    cold_start=True,
    progress=Progress(total_bytes=9, moved_bytes=3, moving_time=1.5),
    residency=ModelResidency(gpu_share=0.5),
)
NOTHING = CallRecord(
    start=CallStart(endpoint=CHAT),
    outcome="failed",
    ending="exception",
    error_type="connect",
    error_message="refused",
    duration=0.5,
)

ADDED = FactTable(
    (
        *FACTS.rows,
        Fact(
            path="is_redirect",
            type="boolean",
            source="client",
            sentence="Whether the server pointed elsewhere.",
            attribute="ollama.response.is_redirect",
            key="response.is_redirect",
            column="is_redirect",
        ),
        Fact(
            path="start.is_inference",
            type="boolean",
            source="request",
            sentence="Whether a model is to work.",
            unit="{call}",
            attribute="ollama.request.is_inference",
            is_at_start=True,
            key="request.is_inference",
            line="request",
            column="is_inference",
        ),
    )
)

# Names of metrics, events, log records, watched servers, and of what several calls belong to: they
# are not facts of a call.
NOT_OF_A_CALL = {
    *("SCOPE", "PROVIDER", "OTHER", "TAG_PREFIX", "REQUEST_PREFIX", "PROVIDER_NAME"),
    *("PHASE", "LOG_ITEM", "TOKEN_TYPE", "TOKEN_MODALITY", "EXCEPTION_MESSAGE"),
    "FINISH_REASON",
    *("MODEL_NAME", "MEMORY_TYPE", "UNLOAD_REASON", "RELOAD_COUNT", "SERVER_VERSION"),
    *("HARDWARE_ID", "HARDWARE_NAME", "HARDWARE_PARENT", "HARDWARE_TYPE"),
    *("GPU_TASK", "SENSOR_LOCATION", "COMPONENT_NAME", "COMPONENT_TYPE"),
    *(name for name in vars(names) if name.startswith(("AGENT_", "STRUCTURED_", "BUDGET_"))),
    "MACHINE_NAME",
    *(name for name in vars(names) if name.startswith("TOOL_") and name != "TOOL_DEFINITIONS"),
}
# Captured content, and which of two names says what was asked.
NOT_IN_THE_TABLE = {
    *("INPUT_MESSAGES", "OUTPUT_MESSAGES", "SYSTEM_INSTRUCTIONS", "TOOL_DEFINITIONS"),
    *("CONTENT_IS_CUT", "OPERATION_NAME", "OLLAMA_OPERATION_NAME"),
}


# --- the rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [RECORD, NOTHING], ids=["all", "nothing"])
@pytest.mark.parametrize("row", FACTS.rows, ids=lambda row: row.path)
def test_a_path_leads_to_a_value_of_its_type(row: Fact, record: CallRecord) -> None:
    value = attrgetter(row.path)(record)
    kinds: dict[str, Any] = {
        "text": str,
        "integer": int,
        "number": float,
        "boolean": bool,
        "texts": tuple,
        "object": dict,
    }
    assert value is None or isinstance(value, (kinds[row.type], row.also or kinds[row.type]))


@pytest.mark.parametrize("field", ["path", "attribute", "column"])
def test_names_are_given_once(field: str) -> None:
    given = [name for row in FACTS.rows if (name := getattr(row, field)) is not None]
    assert sorted(given) == sorted(set(given))


@pytest.mark.parametrize("line", ["request", "end"])
def test_keys_are_given_once_in_each_line(line: str) -> None:
    keys = [row.key for row in FACTS.rows if row.key is not None and row.line == line]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("row", FACTS.rows, ids=lambda row: row.path)
def test_a_row_goes_somewhere_and_has_a_sentence(row: Fact) -> None:
    assert row.attribute or row.spread or row.key
    assert bool(row.spread) == bool(row.spreads_to)
    assert not (row.attribute and row.spread)
    assert row.sentence.endswith(".")
    assert (row.column is None) == (row.key is None)
    assert not row.is_at_start or row.path.startswith("start.")
    assert row.key is None or (row.line == "request") == row.path.startswith("start.")


def test_every_attribute_of_a_call_is_in_the_table() -> None:
    attributes = {
        value
        for name, value in vars(names).items()
        if isinstance(value, str)
        and name.isupper()
        and not name.endswith("_EVENT")
        and name not in NOT_OF_A_CALL | NOT_IN_THE_TABLE
    }
    options = {*names.FLOAT_OPTIONS.values(), *names.INTEGER_OPTIONS.values()}
    options |= {names.REQUEST_STOP_SEQUENCES, names.UNLIMITED_NUM_PREDICT}
    in_table = {row.attribute for row in FACTS.rows if row.attribute}
    in_table |= {
        name for row in FACTS.rows if row.spreads_to for name in row.spreads_to.split(", ")
    }
    assert len(attributes) > 50
    assert attributes - in_table - options == set()


# --- one more row -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["context", "request", "response", "progress", "residency"])
def test_a_default_part_of_a_record_has_no_attributes(part: str) -> None:
    # So a call may pass over it.
    is_of_start = part in {"context", "request"}
    rows = [row for row in FACTS.rows if row.path.split(".")[-2:-1] == [part]]
    default = getattr(CallStart(endpoint=CHAT), part) if is_of_start else getattr(NOTHING, part)
    values = {row.path: getattr(default, row.path.rpartition(".")[2]) for row in rows}
    absent = {row.path: row.absent for row in rows}
    found = {path for path, value in values.items() if value is not None and value != absent[path]}
    assert rows
    assert found == set()


def test_a_part_that_is_not_the_default_has_its_attributes() -> None:
    for part in (Progress(total_bytes=0), ModelResidency(gpu_share=0.0)):
        name = "progress" if isinstance(part, Progress) else "residency"
        attributes = FACTS.end_attributes(replace(NOTHING, **{name: part}))
        assert 0 in attributes.values()


def test_an_added_fact_is_an_attribute() -> None:
    assert "ollama.response.is_redirect" not in FACTS.end_attributes(RECORD)
    assert ADDED.end_attributes(RECORD)["ollama.response.is_redirect"] is False
    assert ADDED.start_attributes(RECORD.start)["ollama.request.is_inference"] is True


def test_an_added_fact_is_on_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "FACTS", ADDED)
    start = spans_module.start_attributes(RECORD.start)
    assert start["ollama.request.is_inference"] is True
    final = spans_module.final_attributes(RECORD, "v1.41")
    assert final["ollama.response.is_redirect"] is False


def test_an_added_fact_is_in_the_lines_of_a_log() -> None:
    line = end_line("1", RECORD, facts=ADDED)
    assert line["response"]["is_redirect"] is False
    assert "is_redirect" not in end_line("1", RECORD)["response"]
    line = request_line("1", RECORD.start, facts=ADDED)
    assert line["request"]["is_inference"] is True


def test_an_added_fact_is_checked() -> None:
    ADDED.fields({"response": {"is_redirect": True}}, "end")
    FACTS.fields({"response": {"is_redirect": "yes"}}, "end")
    with pytest.raises(
        ValueError, match=r"Expected `bool`, got `str` - at `\$.response.is_redirect"
    ):
        ADDED.fields({"response": {"is_redirect": "yes"}}, "end")
    with pytest.raises(ValueError, match="is_inference"):
        ADDED.fields({"request": {"is_inference": 1}}, "request")


def test_what_follows_from_other_facts_is_checked_and_not_read_back() -> None:
    read = ADDED.fields({"response": {"is_redirect": True, "done": True}}, "end")
    assert read["response"] == asdict(ResponseFacts(done=True))
    assert "is_redirect" not in read[""]


def test_an_added_fact_is_a_column() -> None:
    assert ADDED.flat(RECORD.start, RECORD)["is_redirect"] is False
    assert ADDED.flat(RECORD.start, None)["is_redirect"] is None
    assert ADDED.flat(RECORD.start, None)["is_inference"] is True
    (column,) = [column for column in ADDED.columns() if column.name == "is_inference"]
    assert (column.sql_type, column.key, column.line, column.unit, column.sentence) == (
        "BOOLEAN",
        "request.is_inference",
        "request",
        "{call}",
        "Whether a model is to work.",
    )


def test_an_added_fact_is_in_the_reference() -> None:
    assert (
        "| Whether a model is to work. | boolean | `{call}` | request "
        "| `ollama.request.is_inference` | `request: request.is_inference` | `is_inference` |\n"
    ) in ADDED.markdown()
    rows = ADDED.markdown().splitlines()
    assert len(rows) == len(ADDED.rows) + 2
    assert {row.replace("\\|", "").count("|") for row in rows} == {8}


# --- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [RECORD, NOTHING], ids=["all", "nothing"])
def test_what_is_written_passes_the_check(record: CallRecord) -> None:
    for line, values in (
        ("request", FACTS.request_values(record.start)),
        ("end", FACTS.end_values(record)),
    ):
        FACTS.fields(json.loads(json.dumps(values)), line)  # type: ignore[arg-type]


def test_what_is_not_known_is_not_written() -> None:
    assert FACTS.end_values(NOTHING) == {
        "outcome": "failed",
        "ending": "exception",
        "error_type": "connect",
        "error_message": "refused",
        "duration": 0.5,
        "phases": {"unaccounted": 0.5},
        "size": 0,
    }


@pytest.mark.parametrize("row", [row for row in FACTS.rows if row.key], ids=lambda row: row.path)
def test_a_value_of_a_wrong_type_is_refused(row: Fact) -> None:
    assert row.key is not None
    value: Any = {"no": object} if row.type != "object" else 7
    for key in reversed(row.key.split(".")):
        value = {key: value}
    with pytest.raises(ValueError, match=row.key.rpartition(".")[2]):
        FACTS.fields(value, row.line)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_a_number_is_finite(odd: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        FACTS.fields({"duration": odd}, "end")


def test_seconds_are_rounded_to_the_microsecond() -> None:
    record = replace(RECORD, duration=1 / 3)
    assert FACTS.end_values(record)["duration"] == 0.333333
    assert FACTS.flat(record.start, record)["duration"] == 0.333333
