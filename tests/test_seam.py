"""Nothing outside `_wire` and `testing` knows the native protocol: neither its code nor its fields.

Everything else goes through the dialect of a route, `_wire.endpoints.dialect_of`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pytest

import ollama_otel
from ollama_otel import records
from ollama_otel._facts import FACTS
from ollama_otel._wire import dialect
from ollama_otel._wire.endpoints import ENDPOINTS
from ollama_otel.analysis._store.columns import COLUMNS

PACKAGE = Path(ollama_otel.__file__).parent
NATIVE = "ollama_otel._wire.native"
INSIDE = {"_wire", "testing"}
OUTSIDE = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] not in INSIDE
}

# --- by import ----------------------------------------------------------------------------


def imported(source: str) -> Iterator[str]:
    """Every module and every name of a module that is imported, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_native(name: str) -> bool:
    return f"{name}.".startswith(f"{NATIVE}.") or name.endswith((".NATIVE", ".NativeDialect"))


def test_nothing_outside_imports_the_native_dialect() -> None:
    assert [
        f"{module}: {name}"
        for module, source in OUTSIDE.items()
        for name in imported(source)
        if is_native(name)
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "from ollama_otel._wire.native import NATIVE",
        "from ollama_otel._wire import native",
        "import ollama_otel._wire.native.request",
        "def late():\n    from ollama_otel._wire.native.response import joined",
        "from ollama_otel._wire.endpoints import NATIVE",
    ],
)
def test_an_import_of_the_native_dialect_is_found(source: str) -> None:
    assert any(map(is_native, imported(source)))


# --- by name ------------------------------------------------------------------------------

_FIELD = re.compile(r"_?[a-z][a-z0-9_]*\Z")
_QUOTED = re.compile(r'"(\w+)"')

Use = Literal["read", "said"]
"""`read`: looked up in something. `said`: anything else, a key that is written too."""


class Word(NamedTuple):
    text: str
    use: Use
    line: int


def words(source: str) -> Iterator[Word]:
    """The strings of a module that are a field's name, or hold one in quotes as JSON has it."""
    tree = ast.parse(source)
    prose, read = set[int](), set[int]()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant() as text):
                prose.add(id(text))
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                prose |= {id(each) for each in ast.walk(node)}
            case ast.Subscript(value=ast.Name(id="Literal")):
                pass
            case ast.Subscript(slice=key, ctx=ast.Load() | ast.Del()):
                read.add(id(key))
            case ast.Call(func=ast.Attribute(attr="get" | "pop" | "setdefault"), args=[key, *_]):
                read.add(id(key))
            case ast.Call(func=ast.Name(id="get" | "itemgetter" | "attrgetter"), args=[key, *_]):
                read.add(id(key))
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn(), *_]):
                read.add(id(key))
            case ast.MatchMapping(keys=keys):
                read |= set(map(id, keys))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in prose:
            continue
        text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        if isinstance(text, str):
            found = [text] if _FIELD.match(text) else _QUOTED.findall(text)
            use: Use = "read" if id(node) in read or text not in found else "said"
            yield from (Word(each, use, node.lineno) for each in found)


def struct_fields(source: str) -> Iterator[str]:
    """The fields of the structs that JSON is converted to."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and "Struct" in map(ast.unparse, node.bases):
            for each in node.body:
                if isinstance(each, ast.AnnAssign):
                    yield ast.unparse(each.target)


FIELDS = {
    *(row.input_field for row in ENDPOINTS if row.input_field),
    *(
        field
        for path in (PACKAGE / "_wire" / "native").rglob("*.py")
        for field in struct_fields(path.read_text(encoding="utf-8"))
    ),
    *(
        word.text
        for path in (PACKAGE / "_wire" / "native").rglob("*.py")
        for word in words(path.read_text(encoding="utf-8"))
    ),
}
"""What the native dialect reads and writes, and the values that it looks for."""

OURS = {
    # Facts: the keys of log lines and the columns.
    *(part for row in FACTS.rows if row.key for part in row.key.split(".")),
    *(row.column for row in FACTS.rows if row.column),
    # Values of closed lists: outcomes, phases, kinds of response, kinds of field.
    *(
        value
        for module in (records, dialect)
        for each in vars(module).values()
        for value in get_args(each)
        if isinstance(value, str)
    ),
    # Kinds of part of a message.
    *(part.__struct_config__.tag for part in get_args(records.Part)),
    # Of each call: its key in log lines and in `--json`.
    "id",
    # What was done to a body before it was logged.
    "images",
    # The role, in a conversation and in the context of a call.
    "user",
}
"""Words that mean something of ours as well, so that they may be said, but not be looked up."""

ALLOWED: Mapping[str, str] = {
    # Our own documents: lines of the replay log, cassettes, JSON that the command line prints.
    "_cli/call_view.py": "arguments name",
    "_log/cassette.py": "format id",
    "_log/format.py": "model progress response",
    "_log/old_versions.py": "load_duration progress response status total",
    "_log/pipeline.py": "options",
    "_log/privacy.py": "count",
    "_log/reader.py": "id",
    "replay/_diff/compare.py": "arguments input_tokens name output_tokens",
    # Our own sets: changes of a body, aspects of a comparison, what a model is chosen for.
    "_cli/demo_server.py": "completion embedding thinking",
    "_cli/diff_view.py": "tools",
    "_cli/curl.py": "images",
    "replay/_misses.py": "images",
    "replay/_rerun_plan.py": "images",
    # Headings, a command, a module, a name in generated code, a type of token.
    "__init__.py": "context",
    "_cli/call_tree.py": "prompt",
    "_cli/commands.py": "version",
    "_cli/conversation.py": "input system",
    "_cli/demo_view.py": "count total",
    "_cli/slowness.py": "prompt",
    "_facts/table.py": "source",
    "_telemetry/metrics.py": "input",
    "_top/scrape.py": "input",
    # Units and columns of the rows of queries over the table of calls.
    "analysis/_report/attention.py": "model",
    "analysis/_report/page.py": "count",
    "analysis/_report/quantities.py": "count",
    "analysis/_report/sections/advised.py": "count",
    "analysis/_report/sections/capacities.py": "count",
    "analysis/_report/sections/cold_starts.py": "count",
    "analysis/_report/sections/costs.py": "count input name total",
    "analysis/_report/sections/cuts.py": "count",
    "analysis/_report/sections/errors.py": "count message models",
    "analysis/_report/sections/latency.py": "count model",
    "analysis/_report/sections/tokens.py": "count input",
    "analysis/_report/sections/tools.py": "count tool",
    "analysis/_report/totals.py": "count",
    "analysis/_report/values.py": "count",
    # A key of the JSON of `top`.
    "_top/view.py": "models",
    # The default of a route's dialect, which is not written to logs.
    "_facts/rows.py": "native",
    "records.py": "image native",
    # Documents of others: GenAI conventions, OpenTelemetry, Grafana, Prometheus, Compose.
    "_telemetry/attribute_limits.py": "arguments content description parameters",
    "_telemetry/messages.py": "arguments content description function name parameters role",
    "_telemetry/exporters.py": "insecure response",
    "_monitoring/board_file.py": "name query",
    "_monitoring/compose.py": "info version",
    "_monitoring/export.py": "name",
    "_monitoring/grafana_api.py": "message name version",
    "_monitoring/prometheus_api.py": "error name query status success version",
    "_monitoring/promql_selectors.py": "count",
    # The official client's roles and definitions of tools; tool calls that models write as text.
    "_agent/agent.py": "name system",
    "_agent/chat.py": "assistant tool",
    "_agent/leaks.py": "arguments function name parameters",
    "_agent/session.py": "system",
    "_agent/settings.py": "format",
    "_agent/toolbox.py": "function parameters",
    "_telemetry/agents.py": "function",
    # The role of an answer in a message for the official client.
    "_structured/requests.py": "assistant",
    # The official client's parameter of `generate`.
    "_structured/calls.py": "suffix",
    # Methods of the official client.
    "_client_defaults.py": "embeddings",
    # The hooks of an httpx client, and the one field that the official client itself looks for.
    "client.py": "error response",
}
"""What the named modules have other meanings for."""


def native_words(source: str) -> list[Word]:
    """The fields of the native dialect that a module knows."""
    return [
        word
        for word in words(source)
        if word.text in FIELDS and (word.use == "read" or word.text not in OURS)
    ]


OF_TABLES = ("_prices/", "analysis/", "_cli/calls_source.py", "_cli/cost_view.py")
"""Rooms that read tables: columns are facts under our own names, and aliases of their queries."""


def is_common(word: Word) -> bool:
    """Whether a word may as well be a column, or any name that a query or a price file has."""
    return "_" not in word.text or word.text in COLUMNS


NATIVE_WORDS = {module: native_words(source) for module, source in OUTSIDE.items()}


def test_what_reads_tables_knows_no_field_that_only_the_server_has() -> None:
    assert [
        f"{module}:{word.line}: {word.text}"
        for module, found in NATIVE_WORDS.items()
        for word in found
        if module.startswith(OF_TABLES) and not is_common(word)
    ] == []


def test_nothing_outside_knows_a_native_field() -> None:
    assert [
        f"{module}:{word.line}: {word.text}"
        for module, found in NATIVE_WORDS.items()
        for word in found
        if not module.startswith(OF_TABLES) and word.text not in ALLOWED.get(module, "").split()
    ] == []


def test_every_allowance_is_needed() -> None:
    assert [
        f"{module}: {word}"
        for module, allowed in ALLOWED.items()
        for word in allowed.split()
        if word not in {each.text for each in NATIVE_WORDS[module]}
    ] == []


def test_allowances_are_of_modules_that_exist() -> None:
    assert ALLOWED.keys() <= OUTSIDE.keys()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('body.get("messages")', "messages"),
        ('body["messages"][-1]', "messages"),
        ('call.request_body["model"]', "model"),
        ('part.get("thinking", "")', "thinking"),
        ('"tool_calls" in message', "tool_calls"),
        ('match body:\n    case {"prompt": prompt}: pass', "prompt"),
        ('{"prompt": text}', "prompt"),
        ('KEY = "eval_count"', "eval_count"),
        ("""b'"tool_calls"' in data""", "tool_calls"),
        ("""re.compile(rb'"message":')""", "message"),
        ('get = body.get\nget("keep_alive")', "keep_alive"),
        ('body.get("input")', "input"),
        ('endpoint.dialect == "native"', "native"),
    ],
)
def test_a_native_field_is_found(source: str, found: str) -> None:
    assert [word.text for word in native_words(source)] == [found]


@pytest.mark.parametrize(
    "source",
    [
        '"""The body\'s "messages"."""',
        '__all__ = ["messages"]',
        'outcome == "completed"',
        'Kind = Literal["images"]',
        "conversation.messages[0]",
        "client.chat(messages=[])",
    ],
)
def test_other_words_are_not(source: str) -> None:
    assert native_words(source) == []
