"""The table of facts: one row for each thing that is known of a call.

Span attributes, lines of the replay log and their validation, `--json` outputs, the reference
page and the columns for analysis are all generated from it. To add a fact, give a record a field
or a property and add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict
from msgspec.structs import fields as struct_fields

from ollama_otel import _names as names
from ollama_otel._frozen import FrozenDict, frozen
from ollama_otel.records import CallRecord, CallStart

__all__ = ["FACTS", "Column", "Fact", "FactTable", "Line"]

FactType = Literal["text", "integer", "number", "boolean", "texts", "object"]
Source = Literal["caller", "request", "server", "client", "estimate", "residency"]
"""Where a fact comes from.

`caller`: `call_context`. `request`: what was sent. `server`: what the server said. `client`: the
client's own clock and counts. `estimate`: computed from other facts, and not exact. `residency`:
what the server held, polled beside the call.
"""
Line = Literal["request", "end"]
Attributes = Iterable[tuple[str, Any]]

_TYPES: Final[Mapping[FactType, Any]] = {
    "text": str,
    "integer": int,
    # Neither infinite nor NaN.
    "number": Annotated[float, Meta(ge=-1e300, le=1e300)],
    "boolean": bool,
    "texts": tuple[str, ...],
    "object": dict[str, Any],
}
_SQL_TYPES: Final[Mapping[FactType, str]] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "texts": "VARCHAR[]",
    "object": "JSON",
}
_SHOWN: Final[Mapping[FactType, str]] = {"texts": "list of texts"}
_TOO_LARGE: Final = 2**63


class Fact(Struct, frozen=True, kw_only=True):
    """One thing that is known of a call."""

    path: str
    """Where it stands, from `CallRecord` on: `response.input_tokens`."""
    type: FactType
    source: Source
    sentence: str
    unit: str = ""
    """UCUM: `s`, `By`, `{token}`; empty for what has no unit."""
    attribute: str | None = None
    """The span attribute; None: it is not on spans, or `spread` names several."""
    spread: Callable[[Any], Attributes] | None = None
    """Gives the span attributes of a value that is not one attribute as it is."""
    spreads_to: str | None = None
    """The names that `spread` gives, for the reference page."""
    key: str | None = None
    """Where it stands in a line of the replay log, dotted; None: it is not in the log."""
    line: Line = "end"
    column: str | None = None
    """Its name in `--json` and in analysis."""
    absent: Any = None
    """The value that means that there is nothing to say; never written."""
    is_at_start: bool = False
    """Whether the attribute is set when the span starts, for samplers."""
    is_of_completions: bool = False
    """Whether the attribute is set only for completions."""
    also: Any = None
    """A further Python type that its log value may have."""


class Column(Struct, frozen=True, kw_only=True):
    """One column for analysis."""

    name: str
    sql_type: str
    key: str
    """Where the value stands in the log line."""
    line: Line
    unit: str
    sentence: str


# --- attributes that are not the value as it is -------------------------------------------


def _is_number(value: object) -> bool:
    """Whether it is a number that an exporter can encode: finite, and of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < _TOO_LARGE


def _options(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the options that were sent and have the right type; the server refuses the others."""
    for option, value in options.items():
        if option == "stop":
            stops = [value] if isinstance(value, str) else value
            if isinstance(stops, (list, tuple)) and all(isinstance(stop, str) for stop in stops):
                yield names.REQUEST_STOP_SEQUENCES, list(stops)
        elif not _is_number(value):
            continue
        elif option in names.FLOAT_OPTIONS:
            yield names.FLOAT_OPTIONS[option], float(value)
        elif option == "num_predict" and value <= 0:
            yield names.UNLIMITED_NUM_PREDICT, int(value)
        elif option in names.INTEGER_OPTIONS and int(value) == value:
            yield names.INTEGER_OPTIONS[option], int(value)


def _think(think: bool | str) -> Attributes:  # noqa: FBT001 - a value, not a switch
    is_level = isinstance(think, str)
    return ((names.REQUEST_REASONING_LEVEL if is_level else names.REQUEST_THINK, think),)


def _tags(tags: Mapping[str, str]) -> Attributes:
    return ((names.TAG_PREFIX + tag, text) for tag, text in tags.items())


def _output_type(asks_for_json: bool) -> Attributes:  # noqa: FBT001 - a value, not a switch
    return ((names.OUTPUT_TYPE, "json"),) if asks_for_json else ()


def _cold_start(is_cold: bool) -> Attributes:  # noqa: FBT001 - a value, not a switch
    return ((names.COLD_START, True),) if is_cold else ()


# --- the rows -----------------------------------------------------------------------------


def _of_request(
    name: str, kind: FactType, sentence: str, column: str | None = None, **more: Any
) -> Fact:
    return Fact(
        path=f"start.request.{name}",
        type=kind,
        source="request",
        sentence=sentence,
        key=f"request.{name}",
        line="request",
        column=column or name,
        **more,
    )


def _of_response(
    name: str, kind: FactType, sentence: str, column: str | None = None, **more: Any
) -> Fact:
    return Fact(
        path=f"response.{name}",
        type=kind,
        source="server",
        sentence=sentence,
        key=f"response.{name}",
        column=column or name,
        **more,
    )


def _of_start(name: str, kind: FactType, source: Source, sentence: str, **more: Any) -> Fact:
    given = {"key": name.rpartition(".")[2], "column": name.rpartition(".")[2], **more}
    return Fact(
        path=f"start.{name}", type=kind, source=source, sentence=sentence, line="request", **given
    )


def _of_call(path: str, kind: FactType, source: Source, sentence: str, **more: Any) -> Fact:
    given = {"key": path, "column": path.replace(".", "_"), **more}
    return Fact(path=path, type=kind, source=source, sentence=sentence, **given)


_ROWS: Final[tuple[Fact, ...]] = (
    # --- where it went, and whose it is
    _of_start(
        "endpoint.name",
        "text",
        "request",
        "What was asked of the server.",
        key="operation",
        column="operation",
    ),
    _of_start("endpoint.dialect", "text", "request", "Protocol of the route.", absent="native"),
    _of_start("endpoint.method", "text", "request", "HTTP method."),
    _of_start("path", "text", "request", "Path of the URL as sent, without the query."),
    _of_start(
        "server_address",
        "text",
        "request",
        "Host of the URL.",
        key="server",
        attribute=names.SERVER_ADDRESS,
        is_at_start=True,
    ),
    _of_start(
        "server_port",
        "integer",
        "request",
        "Port of the URL.",
        key="port",
        attribute=names.SERVER_PORT,
        is_at_start=True,
    ),
    _of_start("server_scheme", "text", "request", "`http` or `https`.", key="scheme"),
    _of_start("trace_id", "text", "client", "Trace of the call's span, in hexadecimal."),
    _of_start("span_id", "text", "client", "The call's span, in hexadecimal."),
    _of_start(
        "is_sampled",
        "boolean",
        "client",
        "Whether the span was recorded.",
        key="sampled",
        column="sampled",
        absent=False,
    ),
    _of_start(
        "context.conversation_id",
        "text",
        "caller",
        "Conversation, from `call_context`.",
        attribute=names.CONVERSATION_ID,
    ),
    _of_start(
        "context.user_id", "text", "caller", "User, from `call_context`.", attribute=names.USER_ID
    ),
    _of_start(
        "context.tags",
        "object",
        "caller",
        "Tags, from `call_context`.",
        spread=_tags,
        spreads_to=f"{names.TAG_PREFIX}*",
        absent=FrozenDict(),
    ),
    # --- what was asked
    _of_request(
        "model",
        "text",
        "Model that was asked for.",
        attribute=names.REQUEST_MODEL,
        is_at_start=True,
    ),
    _of_request(
        "stream",
        "boolean",
        "Whether the answer was to be streamed.",
        attribute=names.REQUEST_STREAM,
        absent=False,
    ),
    _of_request(
        "purpose",
        "text",
        "`load` or `unload` if the request only moves the model.",
        absent="call",
    ),
    _of_request(
        "options",
        "object",
        "Options that were sent.",
        spread=_options,
        spreads_to="gen_ai.request.*, ollama.request.*",
        absent=FrozenDict(),
    ),
    _of_request(
        "think",
        "boolean",
        "Whether, or how hard, the model was to think.",
        also=str,
        spread=_think,
        spreads_to=f"{names.REQUEST_THINK}, {names.REQUEST_REASONING_LEVEL}",
    ),
    _of_request(
        "keep_alive",
        "text",
        "How long the model was to stay in memory, as sent.",
        attribute=names.REQUEST_KEEP_ALIVE,
    ),
    _of_request(
        "asks_for_json",
        "boolean",
        "Whether a format was asked for.",
        spread=_output_type,
        spreads_to=names.OUTPUT_TYPE,
        absent=False,
    ),
    _of_request(
        "raw",
        "boolean",
        "Whether the prompt was to skip the template.",
        attribute=names.REQUEST_RAW,
    ),
    _of_request(
        "truncate",
        "boolean",
        "Whether a prompt that is too long may be cut.",
        attribute=names.REQUEST_TRUNCATE,
    ),
    _of_request(
        "dimensions",
        "integer",
        "Dimensions asked for of an embedding.",
        attribute=names.EMBEDDINGS_DIMENSION_COUNT,
    ),
    _of_request("input_count", "integer", "Messages of a chat, texts of an embedding request."),
    Fact(
        path="start.message_count",
        type="integer",
        source="request",
        sentence="Messages of a chat.",
        attribute=names.REQUEST_MESSAGE_COUNT,
    ),
    Fact(
        path="start.embedded_count",
        type="integer",
        source="request",
        sentence="Texts of an embedding request.",
        attribute=names.EMBEDDINGS_INPUT_COUNT,
    ),
    _of_request(
        "image_count",
        "integer",
        "Images that were sent.",
        attribute=names.REQUEST_IMAGE_COUNT,
        absent=0,
    ),
    _of_request(
        "tools",
        "texts",
        "Names of the tools offered.",
        attribute=names.REQUEST_TOOL_NAMES,
        absent=(),
    ),
    Fact(
        path="start.request.tool_count",
        type="integer",
        source="request",
        sentence="Tools offered.",
        attribute=names.REQUEST_TOOL_COUNT,
    ),
    _of_request(
        "size",
        "integer",
        "Size of the request's body.",
        "request_size",
        unit="By",
        attribute=names.REQUEST_SIZE,
    ),
    # --- how it ended
    _of_call(
        "outcome",
        "text",
        "client",
        "`completed`, `abandoned`, `cancelled` or `failed`.",
        attribute=names.OUTCOME,
    ),
    _of_call("ending", "text", "client", "Why it ended, from a closed list."),
    _of_call(
        "error_type",
        "text",
        "client",
        "Kind of error, from a closed list.",
        attribute=names.ERROR_TYPE,
    ),
    _of_call("error_message", "text", "server", "What the server or the exception said."),
    _of_call("exception_type", "text", "client", "Class of the exception that was raised."),
    _of_call(
        "http_status",
        "integer",
        "server",
        "HTTP status; absent if no response came.",
        key="status",
        attribute=names.HTTP_STATUS,
    ),
    # --- the client's clock
    _of_call("duration", "number", "client", "Time from the request to the end.", unit="s"),
    _of_call(
        "time_to_first_chunk",
        "number",
        "client",
        "Time to the first bytes of a stream.",
        unit="s",
        attribute=names.RESPONSE_TIME_TO_FIRST_CHUNK,
        is_of_completions=True,
    ),
    _of_call(
        "time_to_first_answer",
        "number",
        "client",
        "Time to the first text or tool call of a stream; thinking does not count.",
        unit="s",
        attribute=names.RESPONSE_TIME_TO_FIRST_ANSWER,
    ),
    _of_call(
        "longest_gap",
        "number",
        "client",
        "Longest wait for one further chunk of a stream.",
        unit="s",
        attribute=names.RESPONSE_LONGEST_GAP,
    ),
    _of_call(
        "held_by_caller",
        "number",
        "client",
        "Time of a stream in which the caller did not ask for more.",
        unit="s",
        attribute=names.RESPONSE_HELD_BY_CALLER,
    ),
    _of_call(
        "chunk_count",
        "integer",
        "client",
        "Messages of a stream; this is not a count of tokens.",
        attribute=names.RESPONSE_CHUNK_COUNT,
        absent=0,
    ),
    _of_call(
        "response_size",
        "integer",
        "client",
        "Size of the response's body, as it came over the wire.",
        unit="By",
        key="size",
        attribute=names.RESPONSE_SIZE,
    ),
    _of_call("content_type", "text", "server", "Of the response's head.", absent=""),
    _of_call("content_encoding", "text", "server", "Of the response's head.", absent=""),
    _of_call(
        "is_from_network",
        "boolean",
        "client",
        "Whether the response came over a connection.",
        key="network",
        column="is_from_network",
        absent=False,
    ),
    # --- what the server said
    _of_response(
        "model", "text", "Model that answered.", "response_model", attribute=names.RESPONSE_MODEL
    ),
    _of_response(
        "remote_model",
        "text",
        "Model that a cloud server used.",
        attribute=names.RESPONSE_REMOTE_MODEL,
    ),
    _of_response(
        "remote_host",
        "text",
        "Cloud server that answered.",
        attribute=names.RESPONSE_REMOTE_HOST,
    ),
    _of_response("done", "boolean", "Whether the final message was seen.", absent=False),
    _of_response(
        "done_reason",
        "text",
        "Why generation ended, in the server's word.",
        attribute=names.RESPONSE_DONE_REASON,
    ),
    _of_response(
        "input_tokens",
        "integer",
        "Tokens of the prompt, cached ones included.",
        unit="{token}",
        attribute=names.USAGE_INPUT_TOKENS,
    ),
    _of_response(
        "output_tokens",
        "integer",
        "Tokens generated.",
        unit="{token}",
        attribute=names.USAGE_OUTPUT_TOKENS,
    ),
    _of_response(
        "total_duration",
        "number",
        "Time in the server.",
        unit="s",
        attribute=names.RESPONSE_TOTAL_DURATION,
    ),
    _of_response(
        "load_duration",
        "number",
        "Time until the model was ready.",
        unit="s",
        attribute=names.RESPONSE_LOAD_DURATION,
    ),
    _of_response(
        "prompt_eval_duration",
        "number",
        "Time for the part of the prompt that was not cached.",
        unit="s",
        attribute=names.RESPONSE_PROMPT_EVAL_DURATION,
    ),
    _of_response(
        "eval_duration",
        "number",
        "Time of generation.",
        unit="s",
        attribute=names.RESPONSE_EVAL_DURATION,
    ),
    _of_response(
        "tool_calls",
        "texts",
        "Names of the tools that the model called.",
        "tool_call_names",
        attribute=names.RESPONSE_TOOL_CALL_NAMES,
        absent=(),
    ),
    Fact(
        path="response.tool_call_count",
        type="integer",
        source="server",
        sentence="Tools that the model called.",
        attribute=names.RESPONSE_TOOL_CALL_COUNT,
    ),
    _of_response("has_thinking", "boolean", "Whether the model thought.", absent=False),
    _of_response("error", "text", "Error in a response whose status was good.", "response_error"),
    # --- what follows from it
    _of_call(
        "finish_reason",
        "text",
        "server",
        "Why generation ended, in the conventions' word.",
    ),
    Fact(
        path="finish_reasons",
        type="texts",
        source="server",
        sentence="The finish reason of each choice.",
        attribute=names.RESPONSE_FINISH_REASONS,
    ),
    _of_call(
        "cold_start",
        "boolean",
        "server",
        "Whether the call waited for its model to be loaded.",
        spread=_cold_start,
        spreads_to=names.COLD_START,
    ),
    _of_call(
        "queue_estimate",
        "number",
        "estimate",
        "Estimated wait for a slot.",
        unit="s",
        attribute=names.QUEUE_ESTIMATE,
    ),
    _of_call(
        "phases",
        "object",
        "estimate",
        "Time of each phase; together they are the duration.",
        unit="s",
        absent={},
    ),
    _of_call(
        "decode_rate",
        "number",
        "server",
        "Output tokens per second of generation.",
        unit="{token}/s",
        attribute=names.DECODE_RATE,
    ),
    _of_call(
        "prefill_rate_estimate",
        "number",
        "estimate",
        "Prompt tokens per second; too high if part of the prompt was cached.",
        unit="{token}/s",
        attribute=names.PREFILL_RATE_ESTIMATE,
    ),
    # --- pulls and pushes
    _of_call(
        "progress.total_bytes",
        "integer",
        "server",
        "Size of all layers of a pull or push.",
        unit="By",
        attribute=names.PROGRESS_TOTAL,
    ),
    _of_call(
        "progress.moved_bytes",
        "integer",
        "server",
        "Bytes that the call moved.",
        unit="By",
        attribute=names.PROGRESS_MOVED,
    ),
    _of_call("progress.moving_time", "number", "client", "Time in which bytes moved.", unit="s"),
    _of_call(
        "progress.rate",
        "number",
        "client",
        "Bytes per second while bytes moved.",
        unit="By/s",
        attribute=names.PROGRESS_RATE,
    ),
    # --- what the server held
    _of_call(
        "residency.gpu_share",
        "number",
        "residency",
        "Part of the model in GPU memory, 0 to 1.",
        column="gpu_share",
        attribute=names.MODEL_GPU_SHARE,
    ),
    _of_call(
        "residency.context_length",
        "integer",
        "residency",
        "Context that the loaded model has for each request.",
        unit="{token}",
        column="context_length",
        attribute=names.MODEL_CONTEXT_LENGTH,
    ),
    _of_call(
        "residency.reload_cause",
        "text",
        "residency",
        "Why the model had to be loaded again for this call.",
        column="reload_cause",
        attribute=names.RELOAD_CAUSE,
    ),
    _of_call(
        "residency.reload_before",
        "text",
        "residency",
        "The option's value before it changed.",
        column="reload_before",
        attribute=names.RELOAD_BEFORE,
    ),
    _of_call(
        "residency.reload_after",
        "text",
        "residency",
        "The option's value after it changed.",
        column="reload_after",
        attribute=names.RELOAD_AFTER,
    ),
    _of_call(
        "residency.evicted_by",
        "text",
        "residency",
        "The model that pushed this one out of memory.",
        column="evicted_by",
        attribute=names.EVICTED_BY,
    ),
)


# --- what is generated from them ----------------------------------------------------------


class FactTable:
    """Rows, so arranged that each use of them costs little."""

    def __init__(self, rows: Iterable[Fact]) -> None:
        self.rows = tuple(rows)
        on_spans = [row for row in self.rows if row.attribute or row.spread]
        at_end = [row for row in on_spans if not row.is_at_start]
        always = [row for row in at_end if not row.is_of_completions]
        self._start_attributes = _compiled(
            (row for row in on_spans if row.is_at_start), below="start."
        )
        self._end_attributes = _compiled(always)
        self._completion_attributes = _compiled(at_end)
        self._lines: dict[Line, _LogLine] = {
            "request": _LogLine(self.rows, "request", CallStart, prefix="start."),
            "end": _LogLine(self.rows, "end", CallRecord),
        }

    # --- spans ----------------------------------------------------------------------------

    def start_attributes(self, start: CallStart) -> dict[str, Any]:
        """Return the span attributes that a sampler is to see."""
        return self._start_attributes(start)

    def end_attributes(self, record: CallRecord) -> dict[str, Any]:
        """Return the span attributes of a finished call; what is unknown is absent."""
        if record.start.endpoint.response == "completion":
            return self._completion_attributes(record)
        return self._end_attributes(record)

    # --- the replay log -------------------------------------------------------------------

    def request_values(self, start: CallStart) -> dict[str, Any]:
        """Return what the request line of a log says of a call."""
        return self._lines["request"].values(start)

    def end_values(self, record: CallRecord) -> dict[str, Any]:
        """Return what the end line of a log says of a call."""
        return self._lines["end"].values(record)

    def fields(self, values: Mapping[str, Any], line: Line) -> dict[str, dict[str, Any]]:
        """Return the fields of a record that a log line gives, by the object that has them.

        For example `{"start.request": {"model": "llama3.2"}}`. Facts that follow from others and
        keys that are not in the table are left out. Raises ValueError if a value has the wrong
        type.
        """
        return self._lines[line].fields(values)

    # --- analysis, --json and docs --------------------------------------------------------

    def columns(self) -> tuple[Column, ...]:
        """Return the columns of a table with one row a call."""
        return tuple(
            Column(
                name=row.column,
                sql_type=_SQL_TYPES[row.type] if row.also is None else "VARCHAR",
                key=row.key,
                line=row.line,
                unit=row.unit,
                sentence=row.sentence,
            )
            for row in self.rows
            if row.column is not None and row.key is not None
        )

    def flat(self, start: CallStart, record: CallRecord | None) -> dict[str, Any]:
        """Return every column of a call by its name; None is unknown."""
        values: dict[str, Any] = {}
        for row in self.rows:
            if row.column is not None and row.key is not None:
                is_of_start = row.path.startswith("start.")
                source: Any = start if is_of_start else record
                get = attrgetter(row.path.removeprefix("start."))
                values[row.column] = None if source is None else _plain(get(source))
        return values

    def markdown(self) -> str:
        """Return the table for the reference page."""
        head = ("Fact", "Type", "Unit", "Source", "Span attribute", "Log line", "Column")
        lines = [" | ".join(head), " | ".join("---" for _ in head)]
        lines += [
            " | ".join(
                (
                    row.sentence.replace("|", "\\|"),
                    _SHOWN.get(row.type, row.type) + (" or text" if row.also is str else ""),
                    _code(row.unit),
                    row.source,
                    _code(row.attribute or row.spreads_to),
                    _code(None if row.key is None else f"{row.line}: {row.key}"),
                    _code(row.column),
                )
            )
            for row in self.rows
        ]
        return "".join(f"| {line} |\n" for line in lines)


def _compiled(rows: Iterable[Fact], *, below: str = "") -> Callable[[Any], dict[str, Any]]:
    """Compile rows to one function that gets their attributes from a record.

    It runs for every call, and generic look-ups took four times as long: 6 us. Attribute by
    attribute it reads `if (value := response.model) is not None: found["..."] = value`.
    """
    body: list[str] = []
    owners: dict[str, str] = {"": "source"}
    scope: dict[str, Any] = {}
    for number, row in enumerate(rows):
        owner, _, name = row.path.removeprefix(below).rpartition(".")
        if owner not in owners:
            owners[owner] = owner.replace(".", "_")
            body.append(f"{owners[owner]} = source.{owner}")
        test = "is not None" if row.absent is None else f"not in (None, absent_{number})"
        scope[f"absent_{number}"], scope[f"spread_{number}"] = row.absent, row.spread
        body.append(f"if (value := {owners[owner]}.{name}) {test}:")
        if row.spread is not None:
            body.append(f"    found.update(spread_{number}(value))")
        else:
            body.append(f"    found[{row.attribute!r}] = value")
    lines = ["def attributes(source):", "    found = {}", *(f"    {line}" for line in body)]
    exec("\n".join([*lines, "    return found"]), scope)  # noqa: S102 - our own table, no input
    compiled: Callable[[Any], dict[str, Any]] = scope["attributes"]
    return compiled


class _LogLine:
    """One kind of line in a log: writes its facts, checks them and reads them."""

    def __init__(
        self, rows: Iterable[Fact], line: Line, record: type[Struct], *, prefix: str = ""
    ) -> None:
        self._line = line
        self._record = record
        self._prefix = prefix
        self._rows = [(row, row.key) for row in rows if row.key is not None and row.line == line]
        by_section: dict[str, list[tuple[Fact, str]]] = {}
        for row, key in self._rows:
            section, _, name = key.rpartition(".")
            by_section.setdefault(section, []).append((row, name))
        self._sections = [
            (
                section,
                _all_at_once([row.path.removeprefix(prefix) for row, _ in written]),
                [name for _, name in written],
                [(name, row.absent) for row, name in written if row.absent is not None],
                [name for row, name in written if _is_rewritten(row)],
            )
            for section, written in by_section.items()
        ]

    def values(self, source: Any) -> dict[str, Any]:
        """Return what is known of a start or a record, as JSON."""
        values: dict[str, Any] = {}
        for section, get, keys, absences, rewritten in self._sections:
            known = {key: v for key, v in zip(keys, get(source)) if v is not None}  # noqa: B905
            for name, absent in absences:
                if name in known and known[name] == absent:
                    del known[name]
            for name in rewritten:
                if name in known:
                    known[name] = _plain(known[name])
            if not section:
                values |= known
            elif known:
                values[section] = known
        return values

    def fields(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the fields that a line gives; see `FactTable.fields`."""
        fields: dict[str, dict[str, Any]] = {}
        for owner, section, kind, objects, derived in self._readers:
            if section and section not in values:
                fields[owner] = {}
                continue
            given = values[section] if section else values
            try:
                found = asdict(msgspec.convert(given, kind))
            except msgspec.ValidationError as error:
                raise ValueError(f"{section or 'line'}: {error}") from error
            for name in objects:
                if value := found[name]:
                    found[name] = frozen(value)
            for name in derived:
                del found[name]
            fields[owner] = found
        return fields

    @cached_property
    def _readers(self) -> list[tuple[str, str, Any, list[str], list[str]]]:
        """Return what reads each object of a record: a type, so that most of it happens in C."""
        owners: dict[tuple[str, str], list[tuple[Fact, str]]] = {}
        for row, key in self._rows:
            owner, section = row.path.rpartition(".")[0], key.rpartition(".")[0]
            owners.setdefault((owner, section), []).append((row, key.rpartition(".")[2]))
        readers = []
        for (owner, section), rows in owners.items():
            below = owner.removeprefix(self._prefix.rstrip(".")).lstrip(".")
            stored = {
                field.name: field.default
                for field in struct_fields(_record_at(self._record, below))
            }
            named = [(row.path.rpartition(".")[2], row, key) for row, key in rows]
            fields = [
                # What follows from other facts is checked, and then computed anew.
                (name, _type_of(row), msgspec.field(name=key, default=stored[name]))
                if name in stored
                else (name, _type_of(row) | None, msgspec.field(name=key, default=None))
                for name, row, key in named
            ]
            objects = [name for name, row, _ in named if row.type == "object" and name in stored]
            derived = [name for name, _, _ in named if name not in stored]
            kind = msgspec.defstruct(owner or self._line, fields, kw_only=True)
            readers.append((owner, section, kind, objects, derived))
        return readers


def _all_at_once(paths: list[str]) -> Callable[[Any], Iterable[Any]]:
    # With one name, `attrgetter` returns the value and not a tuple.
    get = attrgetter(*paths, "__class__")
    return lambda source: get(source)[:-1]


def _plain(value: Any) -> Any:
    """Return a value as JSON writers take it; seconds to the microsecond."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _is_rewritten(row: Fact) -> bool:
    """Whether a value is not written as it is; what the server measured is, to the nanosecond."""
    is_exact = row.type == "number" and row.path.startswith("response.")
    return row.type in {"number", "texts", "object"} and not is_exact


def _record_at(record: type[Struct], path: str) -> type[Struct]:
    """Return the type of what a path leads to."""
    for name in filter(None, path.split(".")):
        record = get_type_hints(record)[name]
    return record


def _type_of(row: Fact) -> Any:
    return _TYPES[row.type] if row.also is None else _TYPES[row.type] | row.also


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


FACTS: Final = FactTable(_ROWS)
