"""Every error text of the server, and every exception of the client, has its type."""

import asyncio
import builtins
import http.client
import inspect
import json
import socket
import ssl
from typing import get_args

import httpcore
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._wire.failures import (
    ERROR_MEANINGS,
    ERROR_TYPES,
    ErrorType,
    error_text,
    from_exception,
    from_server,
    is_cancellation,
    redactable,
    shortened,
)

RUNNING = "an error was encountered while running the model: "
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an "
    "internal error, check ollama server logs for details"
)
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; "
    "shorten the prompt, or use a larger context"
)
LLAMA_SERVER = {
    "error": {
        "code": 400,
        "message": "request (6009 tokens) exceeds the available context size (512 tokens), "
        "try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 6009,
        "n_ctx": 512,
    }
}

# Wire reference 4.1, 4.2 and 1; "seen" rows are those of real-servers.md.
TEXTS: list[tuple[int | None, str, ErrorType]] = [
    (400, "missing request body", "invalid_request"),
    (400, "unexpected EOF", "invalid_request"),  # seen: truncated JSON body
    (400, "invalid character 'x' looking for beginning of value", "invalid_request"),
    (400, "json: cannot unmarshal string into Go struct field", "invalid_request"),
    (
        400,
        'invalid think value: "out of memory" (must be "high", "medium", "low", "max", true, or '
        "false)",
        "invalid_request",
    ),
    (400, "model is required", "invalid_request"),
    (400, "invalid model name", "invalid_request"),
    (400, 'use either :local or :cloud, not both: "m:local:cloud"', "invalid_request"),
    (400, 'time: missing unit in duration "300"', "invalid_request"),
    (404, "model '' not found", "model_not_found"),
    (404, "model 'nope' not found", "model_not_found"),
    (404, "model 'nope:latest' not found", "model_not_found"),
    (404, 'model "nope" not found, try pulling it first', "model_not_found"),
    (404, 'model "nope" not found', "model_not_found"),
    (404, "model 'server busy' not found", "model_not_found"),
    (400, '"gemma3" does not support thinking', "unsupported"),
    (400, '"tiny-agent" does not support thinking', "unsupported"),  # seen
    (400, '"tiny-embed" does not support chat', "unsupported"),  # seen
    (400, '"tiny-embed" does not support generate', "unsupported"),
    (400, "registry.ollama.ai/library/tiny-thinker:latest does not support tools", "unsupported"),
    (400, "registry.ollama.ai/library/gemma3:latest does not support insert", "unsupported"),
    (400, "this model only supports one image while more than one image requested", "unsupported"),
    (400, "image generation models are not currently supported", "unsupported"),
    (400, "this server cannot run this remote model", "unsupported"),
    (400, "raw mode does not support template, system, or context", "invalid_request"),
    (400, "top_logprobs must be between 0 and 20", "invalid_request"),
    (400, "invalid input type", "invalid_request"),
    (400, TOO_LONG, "context_exceeded"),
    (400, error_text(json.dumps({"error": json.dumps(LLAMA_SERVER)}).encode()), "context_exceeded"),
    (400, json.dumps(LLAMA_SERVER), "context_exceeded"),
    (400, "the input length exceeds the context length", "context_exceeded"),
    (
        400,
        "input length (9000 tokens) exceeds the model's maximum context length (4096 tokens)",
        "context_exceeded",
    ),
    (400, "input after truncation exceeds maximum context length", "context_exceeded"),
    (400, 'do embedding request: Post "http://127.0.0.1:40123/embedding": EOF', "runner_crashed"),
    (500, 'do embedding request: Post "http://127.0.0.1:40123/embedding": EOF', "runner_crashed"),
    (400, "CUDA error: out of memory", "out_of_memory"),
    (401, "unauthorized", "unauthorized"),
    (401, "you are not currently signed in", "unauthorized"),
    (403, "ollama cloud is disabled: remote model is unavailable", "forbidden"),
    (403, "ollama cloud is disabled: web search is unavailable", "forbidden"),
    (403, "", "forbidden"),
    (404, "404 page not found", "not_found"),
    (404, 'blob "sha256:00" not found', "not_found"),
    (405, "405 method not allowed", "invalid_request"),
    (408, "", "timeout"),
    (429, "too many concurrent requests", "rate_limited"),
    (499, "request canceled", "canceled"),
    (500, 'option "stop" must be of type array', "invalid_request"),  # seen
    (500, 'option "temperature" must be of type float32', "invalid_request"),
    (
        500,
        'invalid format: "xml"; expected "json" or a valid JSON Schema object',
        "invalid_request",
    ),
    (500, "template: :1:2: executing: nil pointer evaluating", "server_error"),
    (500, "llama-server process has terminated: exit status 1", "load_failed"),
    (500, "llama-server process has terminated: signal: killed", "load_failed"),
    (500, "llama runner process has terminated: exit status 2", "load_failed"),
    (
        500,
        "llama-server process has terminated: exit status 1: CUDA error: out of memory",
        "out_of_memory",
    ),
    (500, "timed out waiting for llama-server to start - ", "load_failed"),
    (500, "timed out waiting for llama-server to start: context canceled", "load_failed"),
    (500, "unable to load full model on GPU", "out_of_memory"),
    (500, "unable to load model: /models/blobs/sha256-00", "load_failed"),
    (
        500,
        "model requires more system memory (9.1 GiB) than is available (3.8 GiB)",
        "out_of_memory",
    ),
    (
        500,
        "model requires 9.1 GiB but only 3.8 GiB are available (after 1 GiB overhead)",
        "out_of_memory",
    ),
    (500, "llama-server reported out-of-memory during startup: exit status 1", "out_of_memory"),
    (500, "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed", "out_of_memory"),
    (500, "Insufficient Memory (kIOGPUCommandBufferCallbackErrorOutOfMemory)", "out_of_memory"),
    (500, "vk::Device::allocateMemory: ErrorOutOfDeviceMemory", "out_of_memory"),
    (500, STOPPED, "runner_crashed"),
    (500, RUNNING + "unexpected EOF", "runner_crashed"),  # seen: kill -9, not streamed
    (500, "mlx runner failed: panic (exit: exit status 2)", "runner_crashed"),
    (500, 'llama-server returned invalid tool call arguments for "f": EOF', "server_error"),
    (500, "context canceled", "canceled"),
    (501, "This server does not support embeddings. Start it with `--embeddings`", "unsupported"),
    (501, "", "unsupported"),
    (
        502,
        'Post "https://ollama.com:443/api/chat": dial tcp: lookup ollama.com: no such host',
        "upstream",
    ),
    (502, "<html><h1>502 Bad Gateway</h1></html>", "upstream"),
    (503, "server busy, please try again.  maximum pending requests exceeded", "server_busy"),
    (503, "account unavailable", "server_busy"),
    (504, "<html><h1>504 Gateway Time-out</h1></html>", "timeout"),
    (529, "overloaded", "server_busy"),
    (599, "", "server_error"),
    # Pull and push, stream or not.
    (None, "pull model manifest: file does not exist", "model_not_found"),
    (500, "pull model manifest: file does not exist", "model_not_found"),
    (
        None,
        'pull model manifest: Get "https://registry.ollama.ai/v2/library/m/manifests/latest": '
        "dial tcp: lookup registry.ollama.ai: no such host",
        "upstream",
    ),
    (None, "pull model manifest: 500: oops", "upstream"),
    (
        None,
        "pull model manifest: 412: The model you are attempting to pull requires a newer version "
        "of Ollama.",
        "unsupported",
    ),
    (None, "max retries exceeded: EOF", "upstream"),
    (None, "unauthorized: access denied", "unauthorized"),
    (500, "you are not authorized to push to this namespace", "unauthorized"),
    (
        None,
        "open /root/.ollama/models/manifests/registry.ollama.ai/library/m/latest: no such file or "
        "directory",
        "model_not_found",
    ),
    # In mid-stream, where there is no status.
    (None, RUNNING + "CUDA error: out of memory", "out_of_memory"),
    (None, RUNNING + "unexpected EOF", "runner_crashed"),  # seen: kill -9, streamed
    (None, "error reading llama-server chat response: unexpected EOF", "runner_crashed"),
    (None, TOO_LONG, "context_exceeded"),
    (None, "server busy, please try again.  maximum pending requests exceeded", "server_busy"),
    (None, "something new", "server_error"),
    (200, "something new", "server_error"),
    # What is no error of a server.
    (302, "", "_OTHER"),
    (0, "", "_OTHER"),
]


@pytest.mark.parametrize(("status", "text", "expected"), TEXTS)
def test_a_server_error_has_its_type(status: int | None, text: str, expected: ErrorType) -> None:
    assert from_server(status, text) == expected


def test_every_type_a_server_can_cause_is_in_the_table() -> None:
    client_only = {"connect", "network", "incomplete", "protocol", "rejected"}
    assert {expected for _, _, expected in TEXTS} == set(ERROR_TYPES) - client_only


BODIES: list[tuple[bytes, str]] = [
    (b'{"error":"model \'nope\' not found"}', "model 'nope' not found"),
    (b'{"error":"unauthorized","signin_url":"https://ollama.com/connect"}', "unauthorized"),
    (
        b'{"error":{"message":"model \'nope\' not found","type":"not_found_error",'
        b'"param":null,"code":null}}',
        "model 'nope' not found",
    ),
    (
        b'{"type":"error","error":{"type":"overloaded_error","message":"server busy"},'
        b'"request_id":"req_5f0c"}',
        "server busy",
    ),
    (
        json.dumps({"error": json.dumps(LLAMA_SERVER)}).encode(),
        "request (6009 tokens) exceeds the available context size (512 tokens), try increasing it",
    ),
    (b'{"detail":"Not Found"}', "Not Found"),
    (b"404 page not found", "404 page not found"),
    (b"405 method not allowed\n", "405 method not allowed"),
    (b"", ""),
    (b'{"error":""}', '{"error":""}'),
    (b'{"error":null}', '{"error":null}'),
    (b'{"error":{"code":500}}', '{"error":{"code":500}}'),
    (b'{"error":"{broken"}', "{broken"),
    (b'{"error":"cut o', '{"error":"cut o'),
    (b"[1]", "[1]"),
    (b'{"error":' * 9 + b'"deep"' + b"}" * 9, '{"error":' * 9 + '"deep"' + "}" * 9),
    (b"\xff\xfe", "\ufffd\ufffd"),
    (b'{"error":"half a pair \\ud800"}', "half a pair ?"),
    (b'{"a":' * 20_000, '{"a":' * 20_000),
]


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_the_text_for_humans_is_found_in_a_body(body: bytes, expected: str) -> None:
    assert error_text(body) == expected


def test_a_long_text_keeps_its_start_and_its_end() -> None:
    text = "llama-server process has terminated: " + "x" * 8000 + " cudaMalloc failed"
    whole = error_text(json.dumps({"error": text}).encode())
    assert whole == text
    kept = shortened(whole)
    assert len(kept) == 1024
    assert kept.startswith("llama-server process has terminated: x")
    assert from_server(500, kept) == from_server(500, whole) == "out_of_memory"


def test_a_long_text_is_redacted_before_it_is_cut() -> None:
    text = "x" * 496 + " Authorization: Bearer " + "q" * 500 + "Zq9hunter" + "w" * 480
    seen: list[str] = []

    def redact(found: str) -> str:
        seen.append(found)
        return found.replace("q" * 500 + "Zq9hunter", "[gone]")

    assert "[gone]" in shortened(text, redact)
    assert seen == [text]
    assert len(shortened("a" * 10_000_000, redact)) == 1024
    assert len(seen[-1]) == 64 * 1024
    assert shortened("short", redact) == "short"


def test_a_text_of_megabytes_loses_its_middle_before_it_is_redacted() -> None:
    assert redactable("a b") == "a b"
    kept = redactable("first " + "x" * 1_000_000 + " last")
    assert len(kept) == 64 * 1024
    assert kept.startswith("first x")
    assert kept.endswith("x last")


@pytest.mark.slow
@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.builds(
            lambda value: json.dumps({"error": value}).encode(),
            st.recursive(
                st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
            ),
        ),
    )
)
def test_any_body_gives_a_text(body: bytes) -> None:
    text = error_text(body)
    assert len(shortened(text)) <= 1024
    text.encode()


@given(st.none() | st.integers(), st.text())
def test_any_status_and_text_give_a_type(status: int | None, text: str) -> None:
    assert from_server(status, text) in ERROR_TYPES


# httpx 0.28.1, all of it.
HTTPX: dict[str, ErrorType] = {
    "CloseError": "network",
    "ConnectError": "connect",
    "ConnectTimeout": "timeout",
    "CookieConflict": "_OTHER",
    "DecodingError": "protocol",
    "HTTPError": "_OTHER",
    "HTTPStatusError": "_OTHER",
    "InvalidURL": "invalid_request",
    "LocalProtocolError": "protocol",
    "NetworkError": "network",
    "PoolTimeout": "timeout",
    "ProtocolError": "protocol",
    "ProxyError": "connect",
    "ReadError": "network",
    "ReadTimeout": "timeout",
    "RemoteProtocolError": "protocol",
    "RequestError": "_OTHER",
    "RequestNotRead": "_OTHER",
    "ResponseNotRead": "_OTHER",
    "StreamClosed": "_OTHER",
    "StreamConsumed": "_OTHER",
    "StreamError": "_OTHER",
    "TimeoutException": "timeout",
    "TooManyRedirects": "protocol",
    "TransportError": "network",
    "UnsupportedProtocol": "invalid_request",
    "WriteError": "network",
    "WriteTimeout": "timeout",
}


def made(cls: type[BaseException], text: str = "said") -> BaseException:
    exc = cls.__new__(cls)
    exc.args = (text,)
    return exc


def test_every_exception_of_httpx_has_its_type() -> None:
    found = {
        name: from_exception(made(cls))
        for name, cls in vars(httpx).items()
        if inspect.isclass(cls) and issubclass(cls, BaseException)
    }
    assert found == HTTPX


def test_httpcore_s_exceptions_have_the_types_of_httpx() -> None:
    for name, cls in vars(httpcore).items():
        if inspect.isclass(cls) and issubclass(cls, Exception) and name in HTTPX:
            assert from_exception(made(cls)) == HTTPX[name]


@pytest.mark.parametrize(
    "text",
    [
        "peer closed connection without sending complete message body (incomplete chunked read)",
        "Server disconnected without sending a response.",
    ],
)
@pytest.mark.parametrize("cls", [httpx.RemoteProtocolError, httpcore.RemoteProtocolError])
def test_a_connection_that_ends_too_early_is_incomplete(cls: type[Exception], text: str) -> None:
    assert from_exception(cls(text)) == "incomplete"


class Mute(httpx.RemoteProtocolError):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (ConnectionError("Failed to connect to Ollama."), "connect"),
        (ConnectionRefusedError(), "connect"),
        (ConnectionResetError(), "network"),
        (ConnectionAbortedError(), "network"),
        (BrokenPipeError(), "network"),
        (TimeoutError(), "timeout"),
        (TimeoutError(), "timeout"),
        (socket.gaierror(), "connect"),
        (ssl.SSLCertVerificationError(), "connect"),
        (http.client.IncompleteRead(b""), "incomplete"),
        (asyncio.IncompleteReadError(b"", 1), "incomplete"),
        (json.JSONDecodeError("", "", 0), "protocol"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), "protocol"),
        (asyncio.CancelledError(), "canceled"),
        (ValueError(), "_OTHER"),
        (GeneratorExit(), "_OTHER"),
        (Mute(""), "protocol"),
    ],
)
def test_an_exception_has_its_type(exc: BaseException, expected: ErrorType) -> None:
    assert from_exception(exc) == expected


def test_every_builtin_exception_has_a_type() -> None:
    for cls in vars(builtins).values():
        if inspect.isclass(cls) and issubclass(cls, BaseException) and "Group" not in cls.__name__:
            assert from_exception(made(cls)) in ERROR_TYPES


def test_only_an_order_to_stop_is_a_cancellation() -> None:
    assert is_cancellation(asyncio.CancelledError())
    assert is_cancellation(KeyboardInterrupt())
    assert is_cancellation(SystemExit(0))
    killed = type("GreenletExit", (BaseException,), {"__module__": "greenlet"})
    assert is_cancellation(killed())
    assert is_cancellation(type("Killed", (killed,), {})())
    assert not is_cancellation(type("GreenletExit", (BaseException,), {"__module__": "app"})())
    assert not is_cancellation(GeneratorExit())
    assert not is_cancellation(TimeoutError())
    assert not is_cancellation(made(type("Cancelled", (Exception,), {})))


@pytest.mark.parametrize("module", ["gevent.timeout", "eventlet.timeout"])
def test_a_greenlet_s_time_limit_is_a_timeout(module: str) -> None:
    timeout = type("Timeout", (BaseException,), {"__module__": module})
    assert not is_cancellation(timeout())
    assert from_exception(timeout()) == "timeout"


def test_trio_s_cancellation_is_one() -> None:
    met: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except BaseException as exc:
                met.append(exc)
                raise

    trio.run(main)
    assert [is_cancellation(exc) for exc in met] == [True]


def test_each_type_has_its_sentence() -> None:
    assert get_args(ErrorType) == ERROR_TYPES
    assert tuple(ERROR_MEANINGS) == ERROR_TYPES
    for sentence in ERROR_MEANINGS.values():
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert sentence.count(".") == 1
