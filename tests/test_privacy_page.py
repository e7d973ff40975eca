"""The table of `docs/privacy.md` says what a real capture shows, by default and with each switch."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_otel import Client, Settings, call_context
from ollama_otel._telemetry.instruments import instruments_of
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import Capture, FakeOllama
from ollama_otel.tools import Agent
from tests.documents import blocks_of, run_block, text_of

PAGE = text_of("privacy.md")
COLUMNS = ("span", "metric", "log event", "replay log", "log line")
CELLS = {"yes", "no", "content", "unless content", "bodies", "media", "agents", "budgets"}
BY_DEFAULT = {"yes", "unless content", "agents"}
IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"zq-image" * 30).decode()
VECTOR = 0.731503315227
TOKEN = 7315033790411

MARKERS: dict[str, str] = {
    "prompts, system prompts and messages": "zqprompt",
    "answers": "zqanswer",
    "thinking": "zqthinking",
    "arguments of tool calls": "zqargument",
    "results of tools": "zqresult",
    "descriptions and parameters of offered tools": "zqdescription",
    "names of offered tools": "zqoffered",
    "names of tools that the model invented": "zqinvented",
    "images": IMAGE,
    "vectors of embeddings": str(VECTOR),
    "token ids (`context`)": str(TOKEN),
    "stop sequences": "zqstop",
    "options with numbers, such as `num_ctx`": "num_ctx",
    "texts among the options, besides stop sequences": "zqoption",
    "a JSON schema as `format`": "zqschema",
    "model names": "zqmodel",
    "`user_id` and `conversation_id`": "zquser",
    "tags": "zqtag",
    "host and port of the server": "zqhost",
    "path of the URL": "/api/chat",
    "user, password and query in the URL": "zqurl",
    "headers of requests and responses": "zqheader",
    "error texts of the server: phrases that are always the same": "does not support",
    "error texts of the server: all other words": "zqerror",
    "names of exception classes": "ConnectError",
    "names of exception classes that tools raise": "ZqToolError",
    "texts of exceptions: all but known phrases": "zqexception",
}
"""What stands in each place of the calls, by the first cell of the table's row."""


def table() -> dict[str, dict[str, str]]:
    """Return the cells of the page's table, by row and column."""
    rows: dict[str, dict[str, str]] = {}
    text = PAGE.split("| Kind of data |", 1)[1]
    for line in text.splitlines()[2:]:
        if not line.startswith("|"):
            break
        kind, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[kind] = dict(zip(COLUMNS, cells, strict=True))
    return rows


TABLE = table()


# --- the calls ----------------------------------------------------------------------------


class ZqToolError(Exception):
    """Raised by a tool."""


def zqoffered(a: str) -> str:
    """zqdescription"""
    return "zqresult"


def zqoffered_too(a: str) -> str:
    """zqdescription"""
    raise ZqToolError("zqexception")


PRICES = """
currency = "EUR"

[[machine]]
name = "box"
servers = ["zqhost:1"]

[[machine.price]]
from = 2020-01-01
idle_watts = 60
busy_watts = 350
price_per_kwh = 0.3
rent_per_hour = 1.0

[[budget]]
name = "by user"
limit = 1000
unit = "tokens"
period = "day"
each = "user"

[[budget]]
name = "by tag"
limit = 1000
unit = "tokens"
period = "day"
each = "tag:feature"
"""


def chat_answer(request: httpx.Request) -> httpx.Response:
    content = request.content
    if b"zqraises" in content:
        raise httpx.ConnectError("zqexception")
    if b"zqfails" in content:
        return httpx.Response(
            400, json={"error": '"zqerror" does not support tools'}, headers={"x-note": "zqheader"}
        )
    message: dict[str, Any] = {"role": "assistant", "content": "zqanswer", "thinking": "zqthinking"}
    name = "zqinvented" if b"zqinvent" in content else "zqoffered"
    name = "zqoffered_too" if b"zqagent fails" in content else name
    if not (b"zqagent" in content and b'"role":"tool"' in content):
        message["tool_calls"] = [{"function": {"name": name, "arguments": {"a": "zqargument"}}}]
    return answer({"message": message, "eval_count": 3})


def answer(fields: dict[str, Any]) -> httpx.Response:
    body = {"model": "zqmodel", "done": True, "done_reason": "stop"} | fields
    return httpx.Response(
        200,
        content=json.dumps(body).encode() + b"\n",
        headers={"x-note": "zqheader", "content-type": "application/x-ndjson"},
    )


def server(request: httpx.Request) -> httpx.Response:
    match request.url.path:
        case "/api/embed":
            return answer({"embeddings": [[VECTOR, 0.5]]})
        case "/api/generate":
            texts = {"response": "zqanswer", "thinking": "zqthinking"}
            return answer(texts | {"context": [TOKEN, 2]})
        case _:
            return chat_answer(request)


TOOL = {
    "type": "function",
    "function": {
        "name": "zqoffered",
        "description": "zqdescription",
        "parameters": {"properties": {"zqdescription": {"type": "string"}}},
    },
}
CHAT = {
    "messages": [
        {"role": "system", "content": "zqprompt"},
        {"role": "user", "content": "zqprompt zqinvent", "images": [IMAGE]},
        {"role": "tool", "content": "zqresult", "tool_name": "zqoffered"},
    ],
    "tools": [TOOL],
    "options": {"stop": ["zqstop"], "num_ctx": 7315, "mode": "zqoption"},
    "format": {"type": "object", "properties": {"zqschema": {"type": "string"}}},
}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/api/chat", CHAT),
    ("/api/generate", {"prompt": "zqprompt", "system": "zqprompt"}),
    ("/api/embed", {"input": "zqprompt"}),
    ("/api/chat", {"messages": [{"role": "user", "content": "zqfails"}]}),
    ("/api/chat", {"messages": [{"role": "user", "content": "zqraises"}]}),
]


def captured(folder: Path, log_lines: list[str], **options: Any) -> dict[str, str]:
    """Make the calls as streams, without streams and by an agent; return what each output has."""
    capture, path = Capture(), folder / "calls.jsonl"
    of_log = {"bodies": options.pop("bodies", False), "media": options.pop("media", False)}
    if options.pop("budgets", False):
        options["prices"] = folder / "prices.toml"
        options["prices"].write_text(PRICES, encoding="utf-8")
    settings = Settings(emit_events=True, log_calls=True, response_model_on_metrics=True, **options)
    with ReplayLog(path, **of_log) as log:
        client = Client(
            "http://bob:zqurl@zqhost:1",
            transport=httpx.MockTransport(server),
            headers={"Authorization": "Bearer zqheader", "x-note": "zqheader"},
            settings=settings,
            **{**capture.options, "observers": (log,)},
        )
        with call_context(user_id="zquser", conversation_id="zquser", tags={"feature": "zqtag"}):
            for stream in (True, False):
                for url, body in CALLS:
                    with suppress(httpx.ConnectError):
                        fields = {"model": "zqmodel", **body, "stream": stream}
                        client._client.post(url, params={"q": "zqurl"}, json=fields)
            agent = Agent(client, "zqmodel", [zqoffered, zqoffered_too], name="a")
            runs = [agent.run(f"zqprompt {task}") for task in ("zqagent", "zqagent fails")]
    assert [run.ending for run in runs] == ["answered", "answered"]
    return {
        "span": "\n".join(span.to_json() for span in capture.spans),
        "metric": repr(capture.metrics()),
        "log event": "\n".join(event.to_json() for event in capture.events),
        "replay log": path.read_text(encoding="utf-8"),
        "log line": "\n".join(log_lines),
    }


SWITCHES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "default": ({}, BY_DEFAULT),
    "content": ({"capture_content": "span_and_event"}, {"yes", "agents", "content"}),
    "bodies": ({"bodies": True}, BY_DEFAULT | {"bodies"}),
    "media": ({"bodies": True, "media": True}, BY_DEFAULT | {"bodies", "media"}),
    "budgets": ({"budgets": True}, BY_DEFAULT | {"budgets"}),
    "all": (
        {"capture_content": "span_and_event", "bodies": True, "media": True, "budgets": True},
        CELLS - {"no", "unless content"},
    ),
}
"""Settings, and the cells that are true with them."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the outputs with each switch."""
    found: dict[str, dict[str, str]] = {}
    for name, (options, _) in SWITCHES.items():
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record, lines=lines: lines.append(record.getMessage())  # type: ignore[method-assign,misc]
        logger = logging.getLogger("ollama_otel")
        before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        try:
            found[name] = captured(tmp_path_factory.mktemp(name), lines, **options)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
    return found


# --- the page -----------------------------------------------------------------------------


def test_the_table_has_these_rows_and_words() -> None:
    assert list(TABLE) == list(MARKERS)
    assert {cell for row in TABLE.values() for cell in row.values()} == CELLS


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_cell_is_what_comes_out(switch: str, outputs: dict[str, dict[str, str]]) -> None:
    _, true_cells = SWITCHES[switch]
    found = {
        (kind, column): marker in text
        for kind, marker in MARKERS.items()
        for column, text in outputs[switch].items()
    }
    said = {
        (kind, column): cell in true_cells
        for kind, row in TABLE.items()
        for column, cell in row.items()
    }
    assert {key for key in said if said[key] != found[key]} == set()


@pytest.mark.slow
def test_content_goes_where_its_value_says(tmp_path: Path) -> None:
    spans = captured(tmp_path, [], capture_content="span_only")
    (tmp_path / "events").mkdir()
    events = captured(tmp_path / "events", [], capture_content="event_only")
    assert ("zqprompt" in spans["span"], "zqprompt" in spans["log event"]) == (True, False)
    assert ("zqprompt" in events["span"], "zqprompt" in events["log event"]) == (False, True)


def test_names_of_tools_are_on_metrics_of_agents_only() -> None:
    rows = {row.name: row.labels for row in instruments_of("v1.41")}
    with_tools = {name for name, labels in rows.items() if "gen_ai.tool.name" in labels}
    assert with_tools == {"gen_ai.execute_tool.duration"}


@pytest.mark.sockets
@pytest.mark.processes
def test_the_code_runs_and_redacts() -> None:
    [_switched_on, code] = blocks_of("privacy.md")
    with FakeOllama().serve() as url:
        done = run_block(code, OLLAMA_HOST=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[customer]" in done.stdout
    assert "CUST" not in done.stdout
    assert "example.com" not in done.stdout


def test_the_defaults_on_the_page_are_those_of_the_settings() -> None:
    settings = Settings()
    assert (settings.replay.max_size, settings.replay.max_age) == (100 << 20, 86_400)
    assert f"`replay_keep` ({settings.replay.keep})" in PAGE
    assert (settings.content.mode, settings.replay.bodies) == ("no_content", False)
