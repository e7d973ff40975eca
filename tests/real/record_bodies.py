"""Record what a real server answers, byte for byte, as data for tests that need no server.

    python -m tests.real.record_bodies [CASE ...]

Each case becomes `tests/data/ollama-VERSION/CASE.json`: the request, the status, the content type and the chunks
as they came from the socket. Only the path of the models folder is replaced, by `/models`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from .servers import create_models, run_ollama

if TYPE_CHECKING:
    from collections.abc import Callable

    from .servers import RealOllama

DATA = Path(__file__).parents[1] / "data"

AGENT = "tiny-agent"
THINKER = "tiny-thinker"
EMBED = "tiny-embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, and what to do around it."""

    name: str
    method: str = "POST"
    path: str
    body: dict[str, Any] | str | None = None
    """JSON, or a text to send as it is."""
    before: Callable[[RealOllama], None] | None = None
    """Puts the server into the state the case is about."""
    after_first_chunk: Callable[[RealOllama], None] | None = None
    """Disturbs the server while it answers."""


def _user(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _function(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


SKY = _user("Why is the sky blue?")
LONG = "word " * 2000
TOOLS = [
    _function("get_current_weather", "Get the current weather of a city", location="string"),
    _function("multiply", "Multiply two numbers", a="integer", b="integer"),
]
COMPARE = _user("Compare the weather in Paris and London.")
TOOL_ROUND = [
    *_user("What is the weather in Paris?"),
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"function": {"name": "get_current_weather", "arguments": {"location": "Paris"}}}
        ],
    },
    {"role": "tool", "tool_name": "get_current_weather", "content": "18 C, sunny"},
]
PRODUCT_SCHEMA = {
    "type": "object",
    "properties": {
        "product_name": {"type": "string"},
        "price": {"type": "number"},
        "colors": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["product_name", "price", "colors"],
}
BLOB = "not the weights of any model"
BLOB_PATH = f"/api/blobs/sha256:{hashlib.sha256(BLOB.encode()).hexdigest()}"
# Nothing listens on port 1, so this fails the same way with and without a network.
UNREACHABLE = "127.0.0.1:1/library/absent"


def _unload(server: RealOllama) -> None:
    server.unload_all()


def _load(server: RealOllama, model: str = AGENT) -> None:
    httpx.post(f"{server.url}/api/chat", json={"model": model}, timeout=60).raise_for_status()


def _kill_engine(server: RealOllama) -> None:
    server.kill_engine()


def _chat(name: str, model: str = AGENT, **fields: Any) -> Case:
    before = fields.pop("before", _load if model == AGENT else None)
    after_first_chunk = fields.pop("after_first_chunk", None)
    body = {"model": model, "messages": SKY, **fields}
    return Case(
        name=name, path="/api/chat", body=body, before=before, after_first_chunk=after_first_chunk
    )


def _post(name: str, path: str, **body: Any) -> Case:
    return Case(name=name, path=path, body=body)


CASES = (
    Case(name="version", method="GET", path="/api/version"),
    _chat("chat-cold", stream=False, before=_unload),
    _chat("chat-warm", stream=False),
    _chat("chat-stream"),
    _chat("chat-stream-cold", before=_unload),
    _chat("chat-tools", messages=COMPARE, tools=TOOLS, stream=False),
    _chat("chat-tools-stream", messages=COMPARE, tools=TOOLS),
    _chat("chat-tool-result", messages=TOOL_ROUND, tools=TOOLS, stream=False),
    _chat("chat-tool-result-stream", messages=TOOL_ROUND, tools=TOOLS),
    _chat(
        "chat-format", messages=_user("Extract the product."), format=PRODUCT_SCHEMA, stream=False
    ),
    _chat("chat-format-stream", messages=_user("Extract the product."), format=PRODUCT_SCHEMA),
    _chat("chat-length", options={"num_predict": 5}, stream=False),
    _chat("chat-length-stream", options={"num_predict": 5}),
    _chat("chat-prompt-cut", messages=_user(LONG), options={"num_predict": 5}, stream=False),
    _chat("chat-logprobs-stream", logprobs=True, top_logprobs=2, options={"num_predict": 5}),
    _chat("chat-think", THINKER, stream=False),
    _chat("chat-think-stream", THINKER),
    _chat("chat-think-off", THINKER, think=False, stream=False),
    _chat("chat-preload", messages=[], before=_unload),
    _chat("chat-unload", messages=[], keep_alive=0),
    _chat("chat-engine-killed", messages=_user("Tell me a story."), after_first_chunk=_kill_engine),
    _post("generate", "/api/generate", model=AGENT, prompt="Why is the sky blue?", stream=False),
    _post("generate-stream", "/api/generate", model=AGENT, prompt="Why is the sky blue?"),
    _post("generate-think-stream", "/api/generate", model=THINKER, prompt="Why is the sky blue?"),
    _post("generate-preload", "/api/generate", model=AGENT),
    Case(name="ps", method="GET", path="/api/ps", before=_load),
    _post("generate-unload", "/api/generate", model=AGENT, keep_alive=0),
    Case(name="ps-empty", method="GET", path="/api/ps", before=_unload),
    _post("embed-one", "/api/embed", model=EMBED, input="Why is the sky blue?"),
    _post(
        "embed-many",
        "/api/embed",
        model=EMBED,
        input=["Why is the sky blue?", "Tell me a story.", "Hello"],
    ),
    _post("embed-preload", "/api/embed", model=EMBED),
    _post("embeddings", "/api/embeddings", model=EMBED, prompt="Why is the sky blue?"),
    _post("show", "/api/show", model=AGENT),
    _post("show-embed", "/api/show", model=EMBED),
    Case(name="tags", method="GET", path="/api/tags"),
    _post("copy", "/api/copy", source=AGENT, destination="copied-agent"),
    Case(name="delete", method="DELETE", path="/api/delete", body={"model": "copied-agent"}),
    _post(
        "create",
        "/api/create",
        model="derived-agent",
        **{"from": AGENT},
        system="Be brief.",
        stream=False,
    ),
    _post(
        "create-stream", "/api/create", model="derived-agent", **{"from": AGENT}, system="Be brief."
    ),
    Case(name="blob-absent", method="HEAD", path=BLOB_PATH),
    Case(name="blob-upload", path=BLOB_PATH, body=BLOB),
    Case(name="blob-upload-again", path=BLOB_PATH, body=BLOB),
    Case(name="blob-present", method="HEAD", path=BLOB_PATH),
    Case(name="blob-wrong", path=BLOB_PATH[:-4] + "0000", body=BLOB),
    _post("pull-unreachable", "/api/pull", model=UNREACHABLE, stream=False),
    _post("pull-unreachable-stream", "/api/pull", model=UNREACHABLE),
    _chat("error-model-not-found", "absent"),
    _post("error-embed-model-not-found", "/api/embed", model="absent", input="Hello"),
    Case(
        name="error-delete-model-not-found",
        method="DELETE",
        path="/api/delete",
        body={"model": "absent"},
    ),
    _chat("error-no-thinking", think=True),
    _chat("error-no-tools", THINKER, tools=TOOLS),
    _chat("error-no-chat", EMBED),
    _post("error-no-generate", "/api/generate", model=EMBED, prompt="Hello"),
    _post("error-no-embed", "/api/embed", model=AGENT, input="Hello"),
    _chat("error-stop-of-wrong-type", options={"stop": "."}),
    Case(
        name="error-truncated-json", path="/api/chat", body='{"model": "tiny-agent", "messages": ['
    ),
    Case(name="error-empty-body", path="/api/chat"),
    _chat("error-prompt-too-long", messages=_user(LONG), truncate=False),
    _chat("error-prompt-too-long-no-shift", messages=_user(LONG), shift=False),
    _post("error-embed-too-long", "/api/embed", model=EMBED, input=LONG * 2, truncate=False),
    Case(name="error-no-such-path", method="GET", path="/api/absent"),
    Case(name="error-wrong-method", method="GET", path="/api/chat"),
)


def record(server: RealOllama, case: Case) -> dict[str, Any]:
    """Run one case and give back what its file says."""
    if case.before:
        case.before(server)
    content = json.dumps(case.body) if isinstance(case.body, dict) else case.body
    chunks: list[bytes] = []
    with httpx.stream(
        case.method, f"{server.url}{case.path}", content=content, timeout=120
    ) as response:
        for chunk in response.iter_raw():
            if not chunks and case.after_first_chunk:
                case.after_first_chunk(server)
            chunks.append(chunk.replace(str(server.models).encode(), b"/models"))
    content_type = response.headers.get("content-type")
    return {
        "request": {"method": case.method, "path": case.path, "body": case.body},
        "status": response.status_code,
        "headers": {"content-type": content_type} if content_type else {},
        "chunks": [_readable(chunk) for chunk in chunks],
    }


def _readable(chunk: bytes) -> str | dict[str, str]:
    """A chunk as text, or in base64 where it is not UTF-8 by itself."""
    try:
        return chunk.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(chunk).decode()}


def main(names: list[str]) -> int:
    """Record the named cases, or all of them."""
    unknown = set(names) - {case.name for case in CASES}
    if unknown:
        print(f"record_bodies: no such case: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, run_ollama(Path(folder)) as server:
        create_models(server.url)
        target = DATA / f"ollama-{server.version}"
        target.mkdir(parents=True, exist_ok=True)
        for case in CASES:
            if names and case.name not in names:
                continue
            recorded = record(server, case)
            text = json.dumps(recorded, indent=1, ensure_ascii=False)
            (target / f"{case.name}.json").write_text(f"{text}\n", encoding="utf-8")
            print(
                f"{case.name}: {recorded['status']}, {len(recorded['chunks'])} chunks", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
