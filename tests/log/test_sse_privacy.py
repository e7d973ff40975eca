"""Secrets in server-sent events are found by what the dialect says of its own fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel import instrument_client
from ollama_otel._log.privacy import BodyPolicy
from ollama_otel._wire.dialect import Dialect, Fields, as_json
from ollama_otel._wire.endpoints import added_dialect
from ollama_otel._wire.sse import SSE
from ollama_otel.replay import RecordedCall, ReplayLog, read
from tests.examples import examples
from tests.toy_dialect import ASK, TOY, ToyDialect, stream

POLICY = BodyPolicy()
SECRET = "joe@example.com"
HIDDEN = "[redacted: email]"


def answered(pieces: Sequence[bytes]) -> tuple[list[bytes], frozenset[str]]:
    return POLICY.response(pieces, TOY, holds_vectors=False)


def said(pieces: Sequence[bytes], *, key: str = "words", choice: int = 0) -> str:
    messages = [json.loads(each) for each in SSE.payloads(b"".join(pieces)) if each != b"[END]"]
    bits = [each["bit"] for each in messages if "bit" in each]
    return "".join(bit.get(key, "") for bit in bits if bit["choice"] == choice)


def event(message: Mapping[str, Any]) -> bytes:
    return SSE.frame(as_json(message))


# --- fragments ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["words", "musing"])
@pytest.mark.parametrize("place", range(1, len(SECRET)))
def test_a_secret_split_anywhere_over_two_events_goes(place: int, key: str) -> None:
    pieces = stream({key: "I am "}, {key: SECRET[:place]}, {key: SECRET[place:]}, {key: ", hello"})
    kept, changes = answered(pieces)
    assert changes == {"redacted"}
    assert said(kept, key=key) == f"I am {HIDDEN}, hello"
    assert len(kept) == len(pieces)
    # All else is stored to the byte.
    changed = [number for number, piece in enumerate(pieces) if kept[number] != piece]
    assert changed == [2, 3]


def test_a_secret_of_one_character_an_event_goes() -> None:
    pieces = stream(*({"words": letter} for letter in f"to {SECRET}!"))
    kept, changes = answered(pieces)
    assert (said(kept), changes) == (f"to {HIDDEN}!", {"redacted"})
    assert len(kept) == len(pieces)


@settings(max_examples=examples(100))
@given(data=st.data())
def test_it_does_not_matter_how_the_body_came_in_pieces(data: st.DataObject) -> None:
    body = b"".join(stream({"words": "I am joe@exa"}, {"words": "mple.com"}, {"words": " bye"}))
    borders = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[i:j] for i, j in zip([0, *borders], [*borders, len(body)], strict=True)]
    kept, changes = answered(pieces)
    assert (said(kept), changes) == (f"I am {HIDDEN} bye", {"redacted"})
    assert len(kept) == len(pieces)


def test_events_without_secrets_are_stored_as_they_came() -> None:
    pieces = stream({"words": "Hello,"}, {"musing": "hm"}, {"device": "lamp", "with": {"on": True}})
    kept, changes = answered(pieces)
    assert all(new is old for new, old in zip(kept, pieces, strict=True))
    assert changes == frozenset()


def test_two_choices_are_told_apart() -> None:
    card = "4111111111111111"
    # Together the choices would say a card number; none of them does.
    apart = stream({"choice": 0, "words": card[:8]}, {"choice": 1, "words": card[8:]})
    assert answered(apart) == (apart, frozenset())
    pieces = stream(
        {"choice": 0, "words": "a joe@exa"},
        {"choice": 1, "words": "b 4111 1111"},
        {"choice": 0, "words": "mple.com c"},
        {"choice": 1, "words": " 1111 1111 d"},
    )
    kept, changes = answered(pieces)
    assert changes == {"redacted"}
    assert said(kept, choice=0) == f"a {HIDDEN} c"
    assert said(kept, choice=1) == "b [redacted: card_number] d"


# --- what is not a fragment ---------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"event: joe@example.com\n", b": joe@example.com\n", b"id: joe@example.com\n"],
)
def test_lines_without_data_are_searched_too(line: bytes) -> None:
    first, *others = stream({"words": "Hello"})
    kept, changes = answered([line + first, *others])
    assert changes == {"redacted"}
    assert kept == [line.replace(b"joe@example.com", HIDDEN.encode()) + first, *others]


def test_data_that_is_not_json_is_searched_too() -> None:
    kept, changes = answered([b"data: write to joe@example.com\n\n"])
    assert (kept, changes) == ([b"data: write to [redacted: email]\n\n"], {"redacted"})


def test_other_fields_of_an_event_are_searched_too() -> None:
    call = event({"bit": {"choice": 0, "device": "mail", "with": {"to": SECRET, "password": "x"}}})
    kept, changes = answered([call, event({"trouble": f"no {SECRET}"})])
    assert changes == {"redacted"}
    assert kept[0] == event(
        {
            "bit": {
                "choice": 0,
                "device": "mail",
                "with": {"to": HIDDEN, "password": "[redacted: password]"},
            }
        }
    )
    assert kept[1] == event({"trouble": f"no {HIDDEN}"})


def test_a_torn_last_event_stays_torn() -> None:
    pieces = stream({"words": "I am joe@exa"}, {"words": "mple.com and more"}, end=False)[:3]
    pieces[2] = pieces[2][: pieces[2].index(b" and")]
    kept, changes = answered(pieces)
    assert changes == {"redacted"}
    assert b"mple.com" not in b"".join(kept)
    assert len(kept) == len(pieces)
    torn = kept[2].removeprefix(b"data: ")
    assert torn.startswith(b'{"bit":')
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(torn)


def test_a_document_of_the_same_dialect_is_redacted() -> None:
    kept, changes = answered([as_json({"who": "toy-1", "whole": {"words": SECRET}})])
    assert (json.loads(kept[0])["whole"], changes) == ({"words": HIDDEN}, {"redacted"})


# --- from the call to the log -------------------------------------------------------------


def logged(path: Path, dialect: Dialect, pieces: Sequence[bytes]) -> RecordedCall:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, content=iter(pieces))

    with added_dialect(dialect, ASK):
        with ReplayLog(path, bodies=True) as log:
            client = instrument_client(
                httpx.Client(transport=httpx.MockTransport(answer)), observers=[log]
            )
            question = {"who": "toy-1", "live": True, "said": [{"by": "user", "words": "Hi"}]}
            client.post("http://host:11434/toy/ask", json=question)
        [call] = read(path)
        # What follows from the body is read while the dialect is known.
        call.answer()
    return call


def test_a_call_of_another_dialect_is_logged_without_its_secrets(tmp_path: Path) -> None:
    pieces = stream({"words": "I am joe@exa"}, {"words": "mple.com"})
    call = logged(tmp_path / "calls.jsonl", TOY, pieces)
    answer = call.answer()
    assert answer is not None and answer.text == f"I am {HIDDEN}"
    assert call.changes == {"redacted"}
    assert call.start.endpoint == ASK
    assert call.record is not None
    assert (call.record.outcome, call.record.response.output_tokens) == ("completed", 2)


class SilentDialect(ToyDialect):
    """Does not say where the texts of a response stand."""

    response_fields = Fields()


def test_bodies_of_a_dialect_that_does_not_name_its_texts_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    call = logged(path, SilentDialect(), stream({"words": "I am joe@exa"}, {"words": "mple.com"}))
    assert (call.request_body, call.chunks, call.missing) == (None, None, "dialect")
    assert call.record is not None and call.record.outcome == "completed"
    assert b"joe@" not in path.read_bytes()
    request, end = map(json.loads, path.read_text().splitlines()[1:])
    assert (request["missing"], end["missing"]) == ("dialect", "dialect")


def test_a_body_whose_events_have_several_data_lines_is_left_out(tmp_path: Path) -> None:
    """A text in them does not stand in one place, so a secret in it could not be found."""
    path = tmp_path / "calls.jsonl"
    broken = [
        b'data: {"bit": {"choice": 0,\ndata: "words": "I am joe@exa"}}\n\n',
        b'data: {"bit": {"choice": 0,\nid: 7\ndata: "words": "mple.com"}}\n\n',
        b"data: [END]\n\n",
    ]
    call = logged(path, TOY, broken)
    assert (call.chunks, call.missing) == (None, "dialect")
    assert b"joe@" not in path.read_bytes()
