"""No secret gets into a log, however it is spread, and what holds none is stored as it came."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import timeit
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_otel._log.privacy import BodyPolicy, KeptMedia
from ollama_otel._wire.dialect import VectorSpan
from ollama_otel._wire.media import media_of
from ollama_otel._wire.native import NATIVE
from ollama_otel.redaction import pattern
from tests.examples import examples
from tests.fake_secrets import KINDS, secrets

DATA = Path(__file__).parents[1] / "data" / "ollama-0.33.0"
POLICY = BodyPolicy()
CARD = "4111 1111 1111 1111"


def recut(body: bytes, borders: Sequence[int]) -> list[bytes]:
    return [body[start:end] for start, end in pairwise([0, *sorted(borders), len(body)])]


def chat(content: str, **fields: Any) -> bytes:
    line = {
        "model": "m",
        "created_at": "2026-11-22T15:42:03.845187625Z",
        "message": {"role": "assistant", "content": content},
        "done": False,
        **fields,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def generate(response: str) -> bytes:
    return json.dumps({"model": "m", "response": response, "done": False}).encode() + b"\n"


def thinking(text: str) -> bytes:
    message = {"role": "assistant", "content": "", "thinking": text}
    return json.dumps({"model": "m", "message": message}, ensure_ascii=False).encode() + b"\n"


def answered(*pieces: bytes) -> tuple[list[bytes], frozenset[str]]:
    return POLICY.response(pieces, NATIVE, holds_vectors=False)


def values(pieces: Sequence[bytes]) -> list[Any]:
    return [json.loads(line) for line in b"".join(pieces).split(b"\n") if line]


def said(pieces: Sequence[bytes]) -> str:
    messages = [value.get("message", value) for value in values(pieces)]
    return "".join(
        message.get(key, "") for key in ("content", "response", "thinking") for message in messages
    )


# --- requests -----------------------------------------------------------------------------


def test_a_request_is_stored_without_its_secrets() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "I am joe@example.com"}],
        "options": {"num_ctx": 5, "X-Api-Key": "foo", "password": ["a", 1, True, None, ""]},
        "joe@example.com": 1,
    }
    stored, changes = POLICY.request(json.dumps(body).encode(), NATIVE)
    assert stored == {
        "model": "m",
        "messages": [{"role": "user", "content": "I am [redacted: email]"}],
        "options": {
            "num_ctx": 5,
            "X-Api-Key": "[redacted: x-api-key]",
            "password": ["[redacted: password]", "[redacted: password]", True, None, ""],
        },
        "[redacted: email]": 1,
    }
    assert changes == {"redacted"}


def test_a_request_without_secrets_is_stored_as_it_is() -> None:
    body = {
        "model": "m",
        "prompt": "Why is the sky blue?",
        "options": {"seed": 1},
        "tools": [{"a": "token"}],
    }
    assert POLICY.request(json.dumps(body).encode(), NATIVE) == (body, frozenset())


def test_images_become_the_hash_of_their_bytes() -> None:
    image = base64.b64encode(b"picture").decode()
    body = {"images": [image, 5], "messages": [{"role": "user", "images": [image]}, 7]}
    omitted = {
        "ollama_otel": "omitted",
        "sha256": hashlib.sha256(b"picture").hexdigest(),
        "size": 7,
    }
    content = json.dumps(body).encode()
    stored = {"images": [omitted, 5], "messages": [{"role": "user", "images": [omitted]}, 7]}
    assert POLICY.request(content, NATIVE) == (stored, {"images"})
    assert BodyPolicy(keeps_media=True).request(content, NATIVE) == (body, frozenset())


def omitted(content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"ollama_otel": "omitted", "sha256": digest, "size": len(content)}


def test_an_image_is_omitted_wherever_it_stands_in_a_request() -> None:
    image = base64.b64encode(b"picture").decode()
    url = f"data:image/png;base64,{image}"
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {
        "images": image,
        "messages": [{"content": [part]}, {"content": [{"images": [image]}]}],
        "input": ["data:image/svg+xml,<svg/>", "data:text/plain,hello"],
    }
    gone = omitted(b"picture")
    stored = {
        "images": gone,
        "messages": [
            {"content": [{"type": "image_url", "image_url": {"url": gone}}]},
            {"content": [{"images": [gone]}]},
        ],
        "input": [omitted(b"data:image/svg+xml,<svg/>"), "data:text/plain,hello"],
    }
    content = json.dumps(body).encode()
    assert POLICY.request(content, NATIVE) == (stored, {"images"})
    assert POLICY.request(json.dumps(stored).encode(), NATIVE) == (stored, frozenset())
    assert BodyPolicy(keeps_media=True).request(content, NATIVE) == (body, frozenset())


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"pixels" * 30).decode()
HIDDEN = "[redacted: email]"


def test_the_mark_of_an_image_has_its_type_if_its_bytes_show_it() -> None:
    (mark,) = POLICY.request(json.dumps({"images": [PNG]}).encode(), NATIVE)[0]["images"]
    assert mark == {**omitted(base64.b64decode(PNG)), "type": "image/png"}
    assert media_of(mark) == replace(media_of(PNG), is_omitted=True)


@pytest.mark.parametrize("keeps_media", [False, True, "answers"])
@pytest.mark.parametrize(
    "header", ["data:image/png;base64,", " DATA:Image/PNG;base64,", "data:image/"]
)
@pytest.mark.parametrize("key", ["content", "images", "url"])
def test_what_follows_an_image_is_redacted(header: str, key: str, keeps_media: KeptMedia) -> None:
    text = f"{header}{PNG} of joe@example.com"
    content = json.dumps({key: text}).encode()
    stored, changes = BodyPolicy(keeps_media=keeps_media).request(content, NATIVE)
    if keeps_media is True:
        assert stored == {key: f"{header}{PNG} of {HIDDEN}"}
        assert changes == {"redacted"}
    else:
        # Of the text without the secret, which a hash of few characters would give away.
        assert stored == {key: omitted(f"{header}{PNG} of {HIDDEN}".encode())}
        assert changes == {"images", "redacted"}


@pytest.mark.parametrize("text", ["joe@example.com", "data:image/png,joe@example.com"])
def test_what_is_no_image_is_redacted_where_an_image_belongs(text: str) -> None:
    content = json.dumps({"images": [text]}).encode()
    (kept,) = BodyPolicy(keeps_media=True).request(content, NATIVE)[0]["images"]
    assert kept == text.replace("joe@example.com", HIDDEN)
    (mark,) = POLICY.request(content, NATIVE)[0]["images"]
    assert mark == omitted(kept.encode())


@pytest.mark.parametrize("header", ["", "data:image/png;base64,", "data:image/jpeg;base64,"])
def test_kept_images_are_never_read_as_text(header: str) -> None:
    """Base64 can look like a secret by chance, and an image that is changed cannot be sent."""
    content = json.dumps({"images": [header + PNG]}).encode()
    policy = BodyPolicy([lambda text: "[gone]" if len(text) > 50 else text], keeps_media=True)
    assert policy.request(content, NATIVE) == ({"images": [header + PNG]}, frozenset())


def test_images_within_a_text_are_omitted_and_the_text_stays() -> None:
    text = (
        f"![a](data:image/png;base64,{PNG}) and ![b](data:image/gif;base64,{PNG}) joe@example.com"
    )
    content = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    stored, changes = POLICY.request(content, NATIVE)
    mark = json.dumps(
        {**omitted(base64.b64decode(PNG)), "type": "image/png"}, separators=(",", ":")
    )
    assert stored["messages"][0]["content"] == f"![a]({mark}) and ![b]({mark}) {HIDDEN}"
    assert changes == {"images", "redacted"}
    kept, _ = BodyPolicy(keeps_media=True).request(content, NATIVE)
    assert kept["messages"][0]["content"] == text.replace("joe@example.com", HIDDEN)


PICTURE_OF_LINES = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
WRAPPED = "\n".join(re.findall(".{1,76}", PICTURE_OF_LINES.decode()))


@pytest.mark.parametrize(
    "url",
    [
        "DATA:IMAGE/PNG;BASE64," + PICTURE_OF_LINES.decode(),
        "data:image/png;name=a.png;base64," + PICTURE_OF_LINES.decode(),
        "data:image/png; base64, " + PICTURE_OF_LINES.decode(),
        "data:image/png;base64," + WRAPPED,
        "data:image/png;base64,\n" + WRAPPED.replace("\n", "\r\n"),
        "data:image/png;base64," + base64.urlsafe_b64encode(b"\xfb\xef\xbe" * 50).decode(),
    ],
)
@pytest.mark.parametrize(
    "around", ["look: {} what is it?", "![a]({})", '<img src="{}">', "{}\nwhat?"]
)
def test_an_image_within_a_text_goes_however_its_url_is_written(url: str, around: str) -> None:
    before, after = around.split("{}")
    stored, changes = POLICY.request(
        json.dumps({"prompt": f"x {before}{url}{after}"}).encode(), NATIVE
    )
    assert re.fullmatch(
        rf'x {re.escape(before)}\{{"ollama_otel":"omitted"[^}}]*\}}{re.escape(after)}',
        stored["prompt"],
    )
    assert changes == {"images"}


def test_a_policy_for_playing_keeps_what_was_answered() -> None:
    policy = BodyPolicy(keeps_media="answers")
    vectors = [b'{"embeddings":[[0.25,0.5]]}']
    assert policy.response(vectors, NATIVE, holds_vectors=True) == (vectors, frozenset())
    image = [json.dumps({"image": PNG, "done": True}).encode()]
    assert policy.response(image, NATIVE, holds_vectors=False) == (image, frozenset())
    assert policy.request(json.dumps({"images": [PNG]}).encode(), NATIVE)[1] == {"images"}


def test_text_behind_an_image_in_an_answer_is_redacted() -> None:
    line = json.dumps({"url": f"data:image/png;base64,{PNG} joe@example.com"}).encode()
    (kept,), changes = BodyPolicy(keeps_media=True).response([line], NATIVE, holds_vectors=False)
    assert json.loads(kept) == {"url": f"data:image/png;base64,{PNG} {HIDDEN}"}
    assert changes == {"redacted"}


def test_messages_that_are_no_list_are_redacted_like_all_else() -> None:
    content = json.dumps({"messages": "joe@example.com"}).encode()
    assert POLICY.request(content, NATIVE)[0] == {"messages": "[redacted: email]"}


def test_a_card_number_goes_though_it_is_a_number() -> None:
    body = {"card": 4111111111111111, "cards": [-4111111111111111, 4111111111111112], "b": True}
    redacted = {"card": "[redacted: card_number]"}
    redacted["cards"] = ["-[redacted: card_number]", 4111111111111112]
    redacted["b"] = True
    assert POLICY.request(json.dumps(body).encode(), NATIVE) == (redacted, {"redacted"})
    call = {"function": {"name": "pay", "arguments": body}}
    kept, changes = answered(chat("", message={"content": "", "tool_calls": [call]}))
    assert values(kept)[0]["message"]["tool_calls"][0]["function"]["arguments"] == redacted
    assert changes == {"redacted"}
    assert values(answered(b'{"card":4111111111111111}')[0]) == [{"card": redacted["card"]}]


def test_a_duration_is_no_card_number() -> None:
    line = {"response": "joe@example.com", "total_duration": 4111111111119}
    assert POLICY.request(json.dumps(line).encode(), NATIVE)[0]["total_duration"] != 4111111111119
    kept, _ = answered(json.dumps(line).encode())
    assert values(kept) == [{"response": "[redacted: email]", "total_duration": 4111111111119}]


def test_all_goes_that_stands_below_a_secret_key() -> None:
    body = {"password": {"value": "x", "n": [1, {"deep": "y", "on": True}]}, "api_key": [["z"]]}
    stored = {
        "password": {
            "value": "[redacted: password]",
            "n": ["[redacted: password]", {"deep": "[redacted: password]", "on": True}],
        },
        "api_key": [["[redacted: api_key]"]],
    }
    assert POLICY.request(json.dumps(body).encode(), NATIVE) == (stored, {"redacted"})
    assert values(answered(json.dumps(body).encode())[0]) == [stored]


def test_the_schema_of_a_secret_argument_stays_but_for_the_values_it_proposes() -> None:
    schema = {"type": "string", "description": "Of the user", "default": "hunter2"}
    body = {"tools": [{"parameters": {"properties": {"password": schema}}}]}
    stored, _ = POLICY.request(json.dumps(body).encode(), NATIVE)
    assert stored["tools"][0]["parameters"]["properties"]["password"] == {
        "type": "string",
        "description": "Of the user",
        "default": "[redacted: password]",
    }
    assert POLICY.values({"properties": {"password": {"x": "hunter2"}}}) == {
        "properties": {"password": {"x": "[redacted: password]"}}
    }


def test_values_are_copied_without_secrets() -> None:
    value = {"stop": ["joe@example.com"], "joe@example.com": ("a", 4111111111111111), "secret": 5}
    assert POLICY.values(value) == {
        "stop": ["[redacted: email]"],
        "[redacted: email]": ["a", "[redacted: card_number]"],
        "secret": "[redacted: secret]",
    }
    assert POLICY.values(None) is None


def test_an_empty_request_is_stored_as_none() -> None:
    assert POLICY.request(b"", NATIVE) == (None, frozenset())


def test_a_request_that_is_no_json_leaves_its_hash() -> None:
    content = b"\x00weights"
    stored = {"ollama_otel": "omitted", "sha256": hashlib.sha256(content).hexdigest(), "size": 8}
    assert POLICY.request(content, NATIVE) == (stored, {"binary"})


def test_half_a_surrogate_pair_can_be_written_to_a_log() -> None:
    stored, _ = POLICY.request(b'{"prompt":"a\\ud800 joe@example.com"}', NATIVE)
    assert stored == {"prompt": "a? [redacted: email]"}


# --- redactors ----------------------------------------------------------------------------


def test_redactors_of_the_user_run_after_those_built_in() -> None:
    seen: list[str] = []

    def note(text: str) -> str:
        seen.append(text)
        return text

    assert BodyPolicy([note, pattern("Joe", "name")]).text("Joe: joe@example.com") == (
        "[redacted: name]: [redacted: email]"
    )
    assert seen == ["Joe: [redacted: email]"]


def broken(text: str) -> str:
    raise ValueError(text)


@pytest.mark.parametrize("redactor", [broken, lambda text: None, lambda text: b"x"])
def test_a_broken_redactor_hides_the_text(redactor: Callable[[str], str]) -> None:
    policy = BodyPolicy([redactor])
    assert policy.text("hello") == "[redaction failed]"
    assert b"hello" not in b"".join(
        policy.response([chat("hello")], NATIVE, holds_vectors=False)[0]
    )


# --- answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_real_answers_are_stored_as_they_came(path: Path) -> None:
    recorded = json.loads(path.read_text())
    pieces = [
        chunk.encode() if isinstance(chunk, str) else base64.b64decode(chunk["base64"])
        for chunk in recorded["chunks"]
    ]
    kept, changes = answered(*pieces)
    body = b"".join(pieces)
    if b'"context":[' in body:
        assert b"".join(kept) == re.sub(rb'"context":\[[0-9,]+\]', b'"context":[]', body)
        assert (len(kept), changes) == (len(pieces), {"token_ids"})
        return
    assert all(new is old for new, old in zip(kept, pieces, strict=True))
    assert changes == frozenset()


def test_a_secret_over_many_lines_goes_and_the_other_lines_stay() -> None:
    pieces = [
        chat(text) for text in ("Hello, my", " card is 41", "11 11", "11 1111 1", "111 ok", " bye")
    ]
    kept, changes = answered(*pieces)
    assert changes == {"redacted"}
    assert [kept[0], kept[5]] == [pieces[0], pieces[5]]
    assert [value["message"]["content"] for value in values(kept)] == [
        *("Hello, my", " card is [redacted: card_number]", "", "", " ok", " bye")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("line", [chat, generate, thinking])
@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_survives_however_it_is_cut(kind: str, line: Callable[[str], bytes]) -> None:
    @settings(max_examples=examples(40))
    @given(secret=secrets(kind), words=st.text(max_size=12), data=st.data())
    def check(secret: str, words: str, data: st.DataObject) -> None:
        text = f"{words} {secret}\n{words}"
        fragments = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
        lines = [line(text[start:end]) for start, end in pairwise([0, *fragments, len(text)])]
        body = b"".join(lines)
        pieces = recut(body, data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
        kept, changes = answered(*pieces)
        assert changes == {"redacted"}
        assert len(kept) == len(pieces)
        assert secret not in said(kept)
        assert re.sub("[ -]", "", secret) not in re.sub("[ -]", "", said(kept))
        assert [value.keys() for value in values(kept)] == [value.keys() for value in values(lines)]

    check()


@settings(max_examples=examples(200))
@given(
    texts=st.lists(st.text(alphabet='Why is 12 the sky€\n\u2028"\\', max_size=12), max_size=8),
    line=st.sampled_from([chat, generate, thinking]),
    end=st.sampled_from([b"", b"\n", b'{"mod', b'{"message":{"content":"to', b"\r\n", b"no json"]),
    data=st.data(),
)
def test_a_body_without_secrets_is_stored_as_it_came(
    texts: list[str], line: Callable[[str], bytes], end: bytes, data: st.DataObject
) -> None:
    body = b"".join(map(line, texts)) + end
    pieces = recut(body, data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    kept, changes = answered(*pieces)
    assert all(new is old for new, old in zip(kept, pieces, strict=True))
    assert changes == frozenset()


odd_pieces = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            *(
                b'{"a":',
                b'"joe@example.com"',
                b"}",
                b"\n",
                b"[",
                b"]",
                b'{"message":{"content":"',
                b"null",
            ),
            *(
                b'"\\ud800"',
                b"\xe2\x82",
                b'{"embeddings":[[1,',
                b"2]]",
                b'{"logprobs":[{"token":"a@b.co"}]}',
            ),
            *(
                b'{"thinking":5,"message":[],"logprobs":"x","context":"y","created_at":7}\n',
                b"{" * 300,
            ),
            *(
                b'{"a":' * 300,
                b"[" * 300 + b"]" * 300 + b"\n",
                b"5\n",
                b'{"created_at":"joe@example.com"}\n',
            ),
        ]
    ),
)


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(
    pieces=st.lists(odd_pieces, max_size=12), holds_vectors=st.booleans(), keeps_media=st.booleans()
)
def test_nothing_raises_whatever_bytes_come(
    pieces: list[bytes], holds_vectors: bool, keeps_media: bool
) -> None:
    policy = BodyPolicy(keeps_media=keeps_media)
    kept, changes = policy.response(pieces, NATIVE, holds_vectors=holds_vectors)
    assert len(kept) == len(pieces)
    assert changes <= {"redacted", "vectors", "images"}
    assert b"joe@example.com" not in b"".join(kept)
    stored, _ = policy.request(b"".join(pieces), NATIVE)
    assert "joe@example.com" not in json.dumps(stored)


def test_tool_calls_and_errors_are_redacted() -> None:
    arguments = {"to": "joe@example.com", "password": "hunter2", "count": 3}
    calls = [{"function": {"name": "mail", "arguments": arguments}}]
    pieces = [
        json.dumps({"message": {"content": "", "tool_calls": calls}}).encode() + b"\n",
        b'{"error":"no such user: joe@example.com"}\n',
    ]
    kept, changes = answered(*pieces)
    call, error = values(kept)
    assert call["message"]["tool_calls"][0]["function"]["arguments"] == {
        "to": "[redacted: email]",
        "password": "[redacted: password]",
        "count": 3,
    }
    assert error == {"error": "no such user: [redacted: email]"}
    assert changes == {"redacted"}


def test_what_repeats_a_secret_token_by_token_goes_with_it() -> None:
    logprobs = [{"token": "41", "logprob": -0.1, "bytes": [52, 49], "top_logprobs": []}]
    pieces = [chat("41", logprobs=logprobs), chat(CARD[2:], logprobs=logprobs, context=[1, 2])]
    kept, _ = answered(*pieces)
    assert [value["logprobs"] for value in values(kept)] == [[], []]
    assert values(kept)[1]["context"] == []


def test_a_secret_that_stands_in_log_probabilities_only_goes() -> None:
    pieces = [chat("", logprobs=[{"token": part}]) for part in ("joe@", "example", ".com")]
    assert b"joe@" not in b"".join(answered(*pieces)[0])


def test_a_secret_at_a_torn_end_goes_and_the_end_stays_torn() -> None:
    pieces = [chat("41"), chat(CARD[2:])[:-17]]
    kept, changes = answered(*pieces)
    assert changes == {"redacted"}
    assert b"1111" not in b"".join(kept)
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(kept[1])


def test_a_secret_in_a_key_that_is_torn_goes() -> None:
    assert answered(b'{"a":1,"joe@example.com')[0] == [b'{"a":1,"[redacted: email]']


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (b"404: joe@example.com\nnot found", b"404: [redacted: email]\nnot found"),
        (b"\xff joe@example.com", b"\xff [redacted: email]"),
        (b"4111111111111111", b"[redacted: card_number]"),
        (
            b'{"a":1}\nBearer abcDEF123\n{"b":2}\n',
            b'{"a":1}\nBearer [redacted: bearer_token]\n{"b":2}\n',
        ),
        (b'{\n "error": "joe@example.com"\n}\n', b'{"error":"[redacted: email]"}\n'),
        (b'["joe@example.com"]', b'["[redacted: email]"]'),
        (b'{"secret":"x"}\r\n', b'{"secret":"[redacted: secret]"}\r\n'),
    ],
)
def test_what_is_no_stream_is_redacted_too(body: bytes, stored: bytes) -> None:
    for pieces in ([body], recut(body, [3, 5, 9])):
        kept, changes = answered(*pieces)
        assert b"".join(kept) == stored
        assert len(kept) == len(pieces)
        assert changes == {"redacted"}


def test_a_key_block_in_plain_text_goes_as_a_whole() -> None:
    body = b"oops\n-----BEGIN PRIVATE KEY-----\nMIIEabc\n\n-----END PRIVATE KEY-----\nbye"
    assert answered(body)[0] == [b"oops\n[redacted: private_key]\nbye"]


def test_vectors_go_unless_media_are_kept() -> None:
    pieces = [b'{"model":"joe@example.com","embeddings":[[0.1,', b'0.2],[0.3,0.4]],"x":1}']
    kept, changes = POLICY.response(pieces, NATIVE, holds_vectors=True)
    value = json.loads(b"".join(kept))
    assert value == {
        "model": "[redacted: email]",
        "embeddings": {
            "ollama_otel": "omitted",
            "sha256": hashlib.sha256(b"[[0.1,0.2],[0.3,0.4]]").hexdigest(),
            "size": 21,
            "count": 2,
        },
        "x": 1,
    }
    assert len(kept) == 2
    assert changes == {"redacted", "vectors"}
    _, changes = BodyPolicy(keeps_media=True).response(pieces, NATIVE, holds_vectors=True)
    assert changes == {"redacted"}


def embedded(body: bytes, *borders: int) -> tuple[list[bytes], frozenset[str]]:
    return POLICY.response(recut(body, borders), NATIVE, holds_vectors=True)


def test_a_flat_array_is_one_vector() -> None:
    ((body,), changes) = embedded(b'{"embedding":[0.1,0.2]}')
    mark = json.loads(body)["embedding"]
    assert (mark["count"], mark["size"], changes) == (1, len(b"[0.1,0.2]"), {"vectors"})
    assert NATIVE.vectors(body) == VectorSpan(start=13, end=len(body) - 1, count=1, is_omitted=True)


def test_vectors_that_are_cut_off_go_as_well() -> None:
    cut = b'{"embeddings":[[0.1,0.2],[0.'
    kept, changes = embedded(cut, 20)
    assert changes == {"vectors"}
    assert json.loads(b"".join(kept).removeprefix(b'{"embeddings":'))["size"] == len(cut) - 14
    assert b"0.1" not in b"".join(kept)


@pytest.mark.parametrize(
    "body", [b'{"embeddings":[]}', b'{"error":"no"}', b"", b'{"embeddings":"x"}']
)
def test_where_no_vectors_are_nothing_is_edited(body: bytes) -> None:
    assert NATIVE.vectors(body) is None
    assert embedded(body) == ([body], frozenset())


PICTURE = bytes(range(256))


@pytest.mark.parametrize(
    "fields",
    [
        {"image": base64.b64encode(PICTURE).decode()},
        {"images": [base64.b64encode(PICTURE).decode()]},
        {"data": [{"b64_json": base64.b64encode(PICTURE).decode()}]},
        {"url": f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"},
    ],
)
def test_images_in_answers_go_unless_media_are_kept(fields: dict[str, Any]) -> None:
    pieces = recut(json.dumps(fields).encode() + b"\n", [9, 200])
    kept, changes = answered(*pieces)
    text = json.dumps(values(kept)[0])
    assert json.dumps(omitted(PICTURE)) in text
    assert len(text) < 250
    assert (len(kept), changes) == (3, {"images"})
    assert answered(*kept) == (kept, frozenset())
    with_media = BodyPolicy(keeps_media=True).response(pieces, NATIVE, holds_vectors=False)
    assert with_media == (pieces, frozenset())
    _, changes = answered(*pieces, chat("joe@example.com"))
    assert changes == {"images", "redacted"}


def test_the_name_of_an_image_in_an_answer_stays() -> None:
    pieces = [b'{"image":"cat","images":["dog"],"url":"' + b"word " * 100 + b'"}\n']
    assert answered(*pieces) == (pieces, frozenset())


def test_an_image_at_a_torn_end_goes_and_the_end_stays_torn() -> None:
    kept, changes = answered(b'{"done":true,"image":"' + b"QUJD" * 100)
    assert kept[0].startswith(b'{"done":true,"image":{"ollama_otel":"omitted"')
    assert changes == {"images"}
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(kept[0])


def test_a_stream_without_secrets_costs_little_more_than_reading_its_json() -> None:
    pieces = [chat(f" word{number}") for number in range(200)]

    def time_of(action: Callable[[], object]) -> float:
        return min(timeit.repeat(action, number=5, repeat=5))

    parsing = time_of(lambda: [json.loads(piece) for piece in pieces])
    assert time_of(lambda: answered(*pieces)) < 10 * parsing


def test_a_body_that_was_redacted_before_stays_as_it_is() -> None:
    kept, _ = answered(b'{"secret":"x","message":{"content":"joe@example.com"}}\n')
    again, changes = answered(*kept)
    assert (again, changes) == (kept, frozenset())
    stored, _ = POLICY.request(b'{"secret":"x"}', NATIVE)
    assert POLICY.request(json.dumps(stored).encode(), NATIVE) == (stored, frozenset())


def test_half_a_surrogate_pair_from_a_redactor_is_stored_as_a_question_mark() -> None:
    policy = BodyPolicy([lambda text: text.replace("Joe", "\ud800")])
    assert policy.response([b"Joe"], NATIVE, holds_vectors=False)[0] == [b"?"]
    assert policy.response([chat("Joe")], NATIVE, holds_vectors=False)[0] == [chat("?")]


# --- names of secrets in JSON ---------------------------------------------------------------


def arguments(values: dict[str, Any]) -> bytes:
    call = {"function": {"name": "f", "arguments": values}}
    return json.dumps(
        {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
    ).encode()


KEYS = (
    "db_password oldPassword password1 smtp_pass github_token OPENAI_API_KEY signing_key AccountKey "
    "ssh_private_key AWS_SESSION_TOKEN sas_token connection_string credentials cookies passphrase "
    "token auth session_id pin otp cvv pat dsn jwt_secret secretToken db.password"
)


@pytest.mark.parametrize("key", KEYS.split())
def test_a_secret_under_a_key_goes_whatever_the_key_is_made_of(key: str) -> None:
    stored, changes = POLICY.request(arguments({key: "Tr0ub4dorQuartz"}), NATIVE)
    assert "Tr0ub4dorQuartz" not in json.dumps(stored)
    assert changes == {"redacted"}
    call = {"function": {"name": "f", "arguments": {key: "Tr0ub4dorQuartz"}}}
    kept, changes = answered(chat("", message={"content": "", "tool_calls": [call]}))
    assert b"Tr0ub4dorQuartz" not in b"".join(kept)
    assert changes == {"redacted"}


@pytest.mark.parametrize(
    "values",
    [
        {
            "max_tokens": 100000,
            "token": "hello",
            "eos_token": "<|end_2_of_text|>",
            "token_type": "a1b2c3",
        },
        {
            "password_length": 12,
            "has_password": "yes 12",
            "password_policy": "min12",
            "secret_name": "db1",
        },
        {
            "pin": 13,
            "primary_key": "abc12345",
            "sort_key": "2026-11-28#17",
            "cache_key": "v12-abcdef",
        },
        {"next_token": "a1b2c3d4", "auth": "basic", "session": "monday", "key": "a1b2c3d4"},
    ],
)
def test_what_is_under_other_keys_stays(values: dict[str, Any]) -> None:
    body = arguments(values)
    assert POLICY.request(body, NATIVE) == (json.loads(body), frozenset())


def test_a_pin_goes_though_it_is_a_number() -> None:
    stored, _ = POLICY.request(arguments({"pin": 4711, "otp": 123456}), NATIVE)
    assert "4711" not in json.dumps(stored) and "123456" not in json.dumps(stored)


def test_the_name_of_a_mark_holds_no_secret() -> None:
    stored, _ = POLICY.request(b'{"joe@example.com password": "x"}', NATIVE)
    assert stored == {"[redacted: email] password": "[redacted: secret]"}


def test_tokens_that_look_like_a_secret_alone_stay_in_log_probabilities() -> None:
    piece = chat("123456", logprobs=[{"token": "123456", "logprob": -0.1}])
    assert answered(piece) == ([piece], frozenset())


def test_log_probabilities_go_with_a_secret_in_a_tool_call() -> None:
    """The model writes a call in a syntax of its own, which no redactor knows."""
    tokens = [{"token": token} for token in ("<parameter=", "password", ">\n", "hun", "ter2")]
    call = {"function": {"name": "login", "arguments": {"password": "hunter2"}}}
    kept, changes = answered(
        chat("", message={"content": "", "tool_calls": [call]}, logprobs=tokens),
        chat("bye", logprobs=tokens),
    )
    assert [value["logprobs"] for value in values(kept)] == [[], []]
    assert changes == {"redacted"}


def test_token_ids_never_stay() -> None:
    body = {"model": "m", "prompt": "Hi", "context": [9001], "options": {"context": [1]}}
    stored, changes = POLICY.request(json.dumps(body).encode(), NATIVE)
    assert (stored, changes) == ({**body, "context": []}, {"token_ids"})
    for context, changes in (([9001], {"token_ids"}), ([], set()), (None, set())):
        kept, found = answered(
            chat("Hi", context=context, message={"content": "Hi", "context": context})
        )
        assert b"9001" not in b"".join(kept)
        assert found == changes
    assert answered(b'{\n"response": "Hi", "context": [9001]}')[1] == {"token_ids"}


def test_short_texts_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def search(text: str) -> str:
        searched.append(text)
        return text.replace("hunter2", "[redacted: test]")

    def own(text: str) -> str:
        own_searched.append(text)
        return text

    monkeypatch.setattr("ollama_otel._log.privacy.redact", search)
    own_searched: list[str] = []
    policy = BodyPolicy([own])
    clean, secret = "llama3.2:latest of 2024", "the word is hunter2"
    for _ in range(3):
        assert policy.text(clean) == clean
        assert policy.text(secret) == "the word is [redacted: test]"
    assert searched.count(clean) == 1
    # A secret is not remembered, and a user's redactor may return something else each time.
    assert searched.count(secret) == 3
    assert own_searched.count(clean) == 3


@pytest.mark.slow
def test_few_texts_are_remembered() -> None:
    policy = BodyPolicy()
    for number in range(10_000):
        assert policy.text(f"name {number}") == f"name {number}"
        assert policy.text("x " * 50) == "x " * 50
    assert 0 < sum(map(len, policy._clean)) < 200_000


# --- JSON that says a thing twice -------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"response":"I am joe@example.com","response":"Hi","done":true}\n',
        b'{"message":{"content":"joe@example.com"},"message":{"content":"Hi"}}\n',
        b'{"message":{"content":"joe@example.com","content":"Hi"}}\n',
        b'{ "error" : "joe@example.com", "error" : "Hi" }',
        b'[{"a":"joe@example.com","a":"Hi"}]',
        b'{"response":"Hi"}\n{"x":{"y":"joe@example.com","y":1}}\n',
        b'{"a":"joe@example.com","a":"\\ud800"}\n',
    ],
)
def test_a_value_that_another_one_replaces_is_not_stored(body: bytes) -> None:
    for pieces in ([body], recut(body, [3, 12, 20])):
        kept, changes = answered(*pieces)
        assert b"joe@" not in b"".join(kept)
        assert changes == {"redacted"}
        assert len(kept) == len(pieces)


@pytest.mark.parametrize(
    "before", [b"", chat("a < b && c > d").replace(b"<", b"\\u003c").replace(b"&", b"\\u0026")]
)
@pytest.mark.parametrize("key", [b"thinking", b"\\u0074hinking", b"a<b", b"a\\u003cb"])
def test_a_message_of_a_stream_that_says_a_thing_twice_is_rewritten(
    before: bytes, key: bytes
) -> None:
    twice = b'{"message":{"%s":"password: hunter22","%s":"x"},"done":false}' % (
        key,
        key.replace(b"\\u003c", b"<"),
    )
    stored, changes = answered(before, twice + b"\n", chat("ok"))
    assert b"hunter22" not in b"".join(stored)
    assert stored[::2] == [before, chat("ok")]
    assert changes == {"redacted"}


def test_what_go_escapes_is_stored_as_it_came() -> None:
    pieces = [
        chat(text).replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
        for text in ("<b>", "a && b", "\\u003c", "plain")
    ]
    assert answered(*pieces) == (pieces, frozenset())


@pytest.mark.parametrize(
    "body",
    [
        b'{"response":"a \\u003c b","done":true}\n',
        b'{ "a": [1.0, 1e3, {"b": ""}] }',
        '{"a":"€"}\n'.encode(),
    ],
)
def test_other_spellings_of_the_same_json_stay(body: bytes) -> None:
    assert answered(body) == ([body], frozenset())


# --- what is no image --------------------------------------------------------------------------


def test_the_callers_own_images_are_images_only_if_they_look_so() -> None:
    picture = base64.b64encode(PICTURE).decode()
    for key in ("arguments", "format", "options", "tools"):
        body = {
            "messages": [{"content": "", "x": {key: {"images": ["cats", "I am joe@example.com"]}}}]
        }
        stored, changes = POLICY.request(json.dumps(body).encode(), NATIVE)
        assert stored["messages"][0]["x"][key] == {"images": ["cats", "I am [redacted: email]"]}
        assert changes == {"redacted"}
    stored, changes = POLICY.request(
        arguments({"images": [picture, f"data:image/png;base64,{picture}"]}), NATIVE
    )
    gone = omitted(PICTURE)
    assert stored["messages"][0]["tool_calls"][0]["function"]["arguments"] == {
        "images": [gone, gone]
    }
    assert changes == {"images"}
