"""With capture off, no text of a request, an answer or an error leaves, wherever it stands.

A canary stands in everything that a caller, a server or an exception can say. With capture on, it
goes through the redactors first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel import Client, Settings
from ollama_otel._wire.known_texts import known_text
from ollama_otel.replay import ReplayLog, read
from ollama_otel.testing import Capture
from tests.wire.test_failures import TEXTS

CANARY = "Zq9Canary"
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"description": CANARY}}}
QUESTION: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": CANARY}],
    "tools": [TOOL],
    "think": CANARY,
    "keep_alive": CANARY,
    "options": {"stop": [CANARY], "num_ctx": 512, f"a {CANARY}": 1, CANARY: CANARY},
    "format": CANARY,
}

Handler = Callable[[httpx.Request], httpx.Response]


def answering(status: int, content: bytes, headers: dict[str, str] = JSON) -> Handler:
    return lambda _: httpx.Response(status, content=content, headers=headers)


def done(**fields: Any) -> bytes:
    message = {"role": "assistant", "content": CANARY, "thinking": CANARY}
    return json.dumps(
        {"model": "m", "message": message, "done": True, "done_reason": "stop"} | fields
    ).encode()


def raising(exception: BaseException, cause: BaseException | None = None) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        raise exception from cause

    return handler


class Broken(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b'{"message":{"role":"assistant","content":"x"},"done":false}\n'
        raise httpx.ReadError(CANARY)


ERRORS = [
    CANARY,
    f"{CANARY} not found",
    f"model '{CANARY}' not found, try pulling it first",
    f'"{CANARY}" does not support tools',
    f'error parsing tool call: raw=\'{{"a": "{CANARY}"}}\', err=unexpected end of JSON input',
    f"an error was encountered while running the model: {CANARY}",
    f"llama-server process has terminated: exit status 1: {CANARY}: out of memory",
    f'invalid think value: "{CANARY}" (must be "high", "medium", "low", "max", true, or false)',
    f'option "{CANARY}" must be of type float32',
    f"open /home/{CANARY}/.ollama: no such file or directory",
    f'Post "https://user:{CANARY}@proxy/api/chat": dial tcp: lookup {CANARY}: no such host',
    f"<html><h1>502 Bad Gateway</h1><pre>Authorization: Bearer {CANARY}</pre></html>",
    "x" * 2000 + CANARY + "x" * 2000,
]
BODIES = [
    *(json.dumps({"error": text}).encode() for text in ERRORS),
    *(json.dumps({"error": {"message": text, "type": CANARY}}).encode() for text in ERRORS[:3]),
    json.dumps({CANARY: CANARY}).encode(),
    json.dumps({"error": {CANARY: CANARY}}).encode(),
    f"<html><body>you sent {CANARY}</body></html>".encode(),
    f'{{"error": "{CANARY}'.encode(),
]
EXCEPTIONS: list[BaseException] = [
    httpx.ConnectError(f"could not connect to http://bob:{CANARY}@h:1"),
    httpx.ConnectError(f"[Errno 111] Connection refused: {CANARY}"),
    httpx.ReadTimeout(CANARY),
    httpx.LocalProtocolError(f"Illegal header value b'Bearer {CANARY}\\n'"),
    httpx.RemoteProtocolError(f"illegal status line: bytearray(b'{CANARY}')"),
    httpx.ProxyError(f"407 {CANARY}"),
    httpx.InvalidURL(f"Invalid port: '{CANARY}@h'"),
    httpx.UnsupportedProtocol(f"Request URL has an unsupported protocol '{CANARY}://'."),
    OSError(111, CANARY),
    OSError(2, "No such file or directory", f"/home/{CANARY}"),
    RuntimeError(CANARY),
    KeyError(CANARY),
    UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY),
    ExceptionGroup(CANARY, [ValueError(CANARY)]),
]
HANDLERS: list[Handler] = [
    *(answering(status, body) for status in (400, 404, 500, 502) for body in BODIES),
    # In a response whose status is good.
    *(answering(200, body + b"\n", NDJSON) for body in BODIES),
    *(answering(200, body) for body in BODIES),
    *map(raising, EXCEPTIONS),
    raising(RuntimeError("x"), ValueError(CANARY)),
    lambda _: httpx.Response(200, stream=Broken(), headers=NDJSON),
    *(
        answering(200, done(**fields) + b"\n", NDJSON)
        for fields in (
            {},
            {"done_reason": CANARY},
            {"model": f"{CANARY} says"},
            {"remote_model": f"{CANARY}?"},
            {"remote_host": f"https://u:{CANARY}@ollama.com:443/{CANARY}?q={CANARY}"},
            {"remote_host": f"{CANARY} {CANARY}"},
            {"error": CANARY},
            {"total_duration": CANARY, "eval_count": CANARY},
            {
                "message": {
                    "role": CANARY,
                    "tool_calls": [{"function": {"name": CANARY, "arguments": {"a": CANARY}}}],
                }
            },
        )
    ),
    answering(200, done(), {"content-type": f"text/plain; note={CANARY} {CANARY}"}),
    answering(200, done(), {"content-encoding": f"{CANARY} {CANARY}"}),
    answering(200, done(), {"content-type": "application/json", "x-echo": CANARY}),
    answering(302, b"", {"location": f"http://h/{CANARY}"}),
]


def exports(handler: Handler, tmp_path: Path, *, bodies: bool = False, **options: Any) -> list[str]:
    """Make one call as a stream and one without, and return all that it exports."""
    capture = Capture()
    settings = Settings(
        emit_events=True,
        log_calls=True,
        response_model_on_metrics=True,
        time_per_output_chunk=True,
        **options,
    )
    path = tmp_path / "calls.jsonl"
    path.unlink(missing_ok=True)
    redactors = options.get("redactors", ())
    with ReplayLog(path, bodies=bodies, redactors=redactors) as log:
        client = Client(
            f"http://bob:{CANARY}@h:1",
            transport=httpx.MockTransport(handler),
            headers={"Authorization": f"Bearer {CANARY}"},
            settings=settings,
            **{**capture.options, "observers": (log,)},
        )
        for stream in (True, False):
            with suppress(Exception):
                client._client.post("/api/chat", json={**QUESTION, "stream": stream})
    assert len(capture.spans) == 2
    return [
        *(span.to_json() for span in capture.spans),
        *(each.to_json() for each in capture.events),
        repr(capture.metrics()),
        path.read_text(encoding="utf-8"),
    ]


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("handler", HANDLERS, ids=range(len(HANDLERS)))
def test_a_canary_stays(handler: Handler, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ollama_otel")
    found = exports(handler, tmp_path)
    assert [text for text in found if CANARY in text] == []
    assert [text for text in caplog.messages if CANARY in text] == []
    assert CANARY not in caplog.text
    # The command line shows no more than the log holds.
    assert all(call.record is not None for call in read(tmp_path / "calls.jsonl"))


@pytest.mark.parametrize("handler", HANDLERS, ids=range(len(HANDLERS)))
def test_captured_content_goes_through_the_redactors(
    handler: Handler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A redactor sees every text whole, so that a canary is never found in a cut one."""
    options = {
        "capture_content": "span_and_event",
        "redactors": (lambda text: text.replace(CANARY, "[gone]"),),
    }
    found = exports(handler, tmp_path, bodies=True, **options)
    assert [text for text in found if CANARY in text] == []
    assert CANARY not in caplog.text


def test_the_whole_text_of_an_error_is_content(tmp_path: Path) -> None:
    text = f"error parsing tool call: raw='{CANARY} x', err=unexpected end of JSON input"
    handler = answering(500, json.dumps({"error": text}).encode())
    options = {
        "capture_content": "span_and_event",
        "redactors": (lambda text: text.replace(CANARY, "[gone]"),),
    }
    redacted = text.replace(CANARY, "[gone]")
    span, _, event, *_ = exports(handler, tmp_path, bodies=True, **options)
    assert json.loads(span)["status"]["description"] == redacted
    assert json.loads(event)["attributes"]["exception.message"] == redacted
    assert {call.record.error_message for call in read(tmp_path / "calls.jsonl")} == {redacted}  # type: ignore[union-attr]
    span, *_ = exports(handler, tmp_path)
    assert json.loads(span)["status"]["description"] == (
        "error parsing tool call: [...] unexpected end of JSON input"
    )


def test_an_error_is_redacted_and_then_cut(tmp_path: Path) -> None:
    """The word that shows a secret would be in the middle that a long text loses."""
    text = "x" * 496 + " Authorization: Bearer " + "q" * 500 + CANARY + "w" * 480
    handler = answering(500, json.dumps({"error": text}).encode())
    exports(handler, tmp_path, bodies=True)
    for call in read(tmp_path / "calls.jsonl"):
        assert call.record is not None
        assert "w" not in str(call.record.error_message)
        assert "[redacted: authorization]" in str(call.record.error_message)


# --- what is known of a text ------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([text for _, text, _ in TEXTS]), min_size=1, max_size=3),
    st.data(),
    st.sampled_from(["m", "nope", None]),
)
def test_nothing_but_phrases_is_known(texts: list[str], data: st.DataObject, model: str) -> None:
    text = " ".join(texts)
    place = data.draw(st.integers(0, len(text)))
    known = known_text(text[:place] + CANARY + text[place:], model)
    assert known is None or CANARY not in known


def test_something_is_known_of_nearly_every_text_of_a_server() -> None:
    unknown = {text for _, text, _ in TEXTS if known_text(text) is None}
    assert unknown == {"", "account unavailable", "something new"}


def test_nearly_every_text_about_the_requested_model_is_known_as_it_is() -> None:
    names = ("nope", "gemma3", "tiny-agent", "tiny-embed", "tiny-thinker")
    cut = [
        text
        for _, text, _ in TEXTS
        if all("[...]" in (known_text(text, name) or "[...]") for name in names)
    ]
    assert len(cut) < len(TEXTS) / 3


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_text_is_read(text: str, model: str) -> None:
    assert len(known_text(text, model) or "") <= 1024


@pytest.mark.parametrize(
    ("text", "model", "known"),
    [
        ("model 'nope' not found", "nope", "model 'nope' not found"),
        ("model 'nope:latest' not found", "nope", "model 'nope:latest' not found"),
        (
            'model "a/b:7b" not found, try pulling it first',
            "a/b:7b",
            'model "a/b:7b" not found, try pulling it first',
        ),
        ("model 'other' not found", "nope", "model [...] not found"),
        ("model 'other' not found", None, "model [...] not found"),
        (
            "registry.ollama.ai/library/gemma3:latest does not support tools",
            "gemma3",
            "registry.ollama.ai/library/gemma3:latest does not support tools",
        ),
        (
            "model requires more system memory (5.6 GiB) than is available (3.2 GiB)",
            "m",
            "model requires more system memory (5.6 GiB) than is available (3.2 GiB)",
        ),
        (
            "request (6009 tokens) exceeds the available context size (512 tokens), "
            "try increasing it",
            "m",
            "request (6009 tokens) exceeds the available context size (512 tokens), "
            "try increasing it",
        ),
        (
            "server busy, please try again.  maximum pending requests exceeded",
            "m",
            "server busy, please try again.  maximum pending requests exceeded",
        ),
        (
            "llama-server process has terminated: exit status 2: error loading model: "
            "unknown model architecture: 'x'",
            "m",
            "llama-server process has terminated: exit status 2: error loading model: "
            "unknown model architecture: [...]",
        ),
        ("[Errno 111] Connection refused", None, "[Errno 111] Connection refused"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate "
            "(_ssl.c:1000)",
            None,
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate "
            "(_ssl.c:1000)",
        ),
        *(
            (text, None, text)
            for text in (
                "All connection attempts failed",
                "[Errno -2] Name or service not known",
                "[Errno 104] Connection reset by peer",
                "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)",
                "Server disconnected without sending a response.",
                "peer closed connection without sending complete message body "
                "(incomplete chunked read)",
                "peer closed connection without sending complete message body "
                "(received 1 bytes, expected 100)",
                "timed out",
                "pull model manifest: file does not exist",
                "this model requires a subscription, upgrade for access: "
                "https://ollama.com/upgrade",
            )
        ),
        ("<h1>502 Bad Gateway</h1>", None, "[...] 502 Bad Gateway [...]"),
        ("something new", "m", None),
        ("'m' and nothing else", "m", None),
        ("", "m", None),
    ],
)
def test_what_is_known_of_a_text(text: str, model: str | None, known: str | None) -> None:
    assert known_text(text, model) == known
