"""Requests that mean the same find the same call; what is not there is explained."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._log.privacy import BodyPolicy, KeptMedia
from ollama_otel._wire.native import NATIVE
from ollama_otel.errors import ReplayLogError, ReplayMissError, SettingsError
from ollama_otel.replay._canonical import canonical_request
from ollama_otel.replay._diff.json import differing_fields
from ollama_otel.replay._matching import CallIndex

from .recorded import call, chat, lines, write

CHAT = ("POST", "/api/chat")
PNG = b"\x89PNG\r\n\x1a\n0123"
IMAGE = base64.b64encode(PNG).decode()
OMITTED = {
    "ollama_otel": "omitted",
    "sha256": hashlib.sha256(PNG).hexdigest(),
    "size": len(PNG),
}


def key(body: Any, path: str = "/api/chat", method: str = "POST", **options: Any) -> str:
    return canonical_request(method, path, body, **options).key


def content(body: Any) -> bytes:
    return json.dumps(body).encode()


def take(index: CallIndex, body: Any, path: str = "/api/chat") -> Any:
    return index.take(index.asked("POST", path, content(body)))


def miss(index: CallIndex, body: Any, path: str = "/api/chat") -> str:
    with pytest.raises(ReplayMissError) as missed:
        take(index, body, path)
    return str(missed.value)


# --- what is the same -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("/api/chat", {"model": "m", "think": True}, {"think": True, "model": "m"}),
        ("/api/chat", {"model": "m"}, {"model": "m:latest"}),
        ("/api/chat", {"model": "h:1/u/m"}, {"model": "h:1/u/m:latest"}),
        ("/api/chat", {"model": "m"}, {"model": "m", "stream": True}),
        ("/api/chat", {"model": "m"}, {"model": "m", "stream": None}),
        ("/api/chat", {"model": "m"}, {"model": "m", "tools": [], "format": "", "think": None}),
        ("/api/chat", {"model": "m"}, {"model": "m", "options": {}, "keep_alive": None}),
        ("/api/chat", {"model": "m"}, {"model": "m", "options": {"seed": None}}),
        ("/api/chat", {"model": "m"}, {"model": "m", "logprobs": False, "top_logprobs": 0}),
        ("/api/chat", {"model": "m"}, {"model": "m", "truncate": True, "shift": True}),
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "x"}]},
            {"messages": [{"role": "user", "content": "x", "images": [], "thinking": ""}]},
        ),
        ("/api/chat", {"options": {"temperature": 1}}, {"options": {"temperature": 1.0}}),
        ("/api/generate", {"model": "m"}, {"model": "m", "raw": False, "system": "", "prompt": ""}),
        ("/api/embed", {"model": "m"}, {"model": "m", "dimensions": 0, "stream": True}),
        ("/api/show", {"model": "m"}, {"name": "m", "verbose": False}),
        ("/api/show", {"model": "m"}, {"name": "m", "model": ""}),
        ("/api/pull", {"model": "m"}, {"model": "m", "insecure": False, "stream": True}),
        (
            "/api/copy",
            {"source": "a", "destination": "b"},
            {"source": "a:latest", "destination": "b"},
        ),
        ("/api/me", None, {}),
    ],
)
def test_what_means_the_same_to_a_server_is_the_same(path: str, one: Any, other: Any) -> None:
    assert key(one, path) == key(other, path)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/chat", {"stream": False}),
        ("/api/chat", {"think": False}),
        ("/api/chat", {"truncate": False}),
        ("/api/chat", {"shift": False}),
        ("/api/chat", {"keep_alive": 0}),
        ("/api/chat", {"options": {"temperature": 0}}),
        ("/api/chat", {"options": {"stop": []}}),
        ("/api/chat", {"options": {"use_mmap": False}}),
        ("/api/chat", {"format": {}}),
        ("/api/chat", {"format": "json"}),
        ("/api/generate", {"raw": True}),
        ("/api/embed", {"input": [""]}),
    ],
)
def test_what_means_something_is_kept(path: str, field: dict[str, Any]) -> None:
    assert key({"model": "m"}, path) != key({"model": "m"} | field, path)


def test_zero_false_and_one_true_are_not_the_same() -> None:
    assert key({"think": False}) != key({"think": 0})
    assert key({"options": {"numa": True}}) != key({"options": {"numa": 1}})


def test_arguments_of_a_tool_call_are_compared_as_they_are() -> None:
    def asked(arguments: dict[str, Any]) -> str:
        function = {"name": "f", "arguments": arguments}
        return key({"messages": [{"role": "assistant", "tool_calls": [{"function": function}]}]})

    assert asked({"city": ""}) != asked({})
    assert asked({"x": 1.0}) == asked({"x": 1}) != asked({"x": True})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/api/chat", "/proxy/ollama/api/chat"),
        ("/v1/systemone", "/x/v1/systemone"),
        ("/api/blobs/sha256:1", "/x/api/blobs/sha256:1"),
        ("/api/unheard_of", "/x/api/unheard_of"),
    ],
)
def test_a_prefix_of_the_host_does_not_matter(one: str, other: str) -> None:
    assert key({}, one) == key({}, other)


def test_paths_methods_and_blobs_matter() -> None:
    keys = [
        key({}, "/api/chat"),
        key({}, "/api/generate"),
        key(None, "/api/tags", "GET"),
        key(None, "/api/tags", "HEAD"),
        key(None, "/api/blobs/sha256:1"),
        key(None, "/api/blobs/sha256:2"),
    ]
    assert len(set(keys)) == len(keys)


def test_an_image_is_the_same_as_the_mark_in_its_place() -> None:
    def asked(image: Any) -> str:
        return key(chat(messages=[{"role": "user", "content": "x", "images": [image]}]))

    assert asked(IMAGE) == asked(OMITTED) == asked(IMAGE[:8] + "\r\n" + IMAGE[8:])
    assert asked(IMAGE) != asked(base64.b64encode(b"another").decode())
    assert key({"images": [IMAGE]}, "/api/generate") == key({"images": [OMITTED]}, "/api/generate")
    assert asked("no base64!") != asked("no base64?")
    assert asked(None) != asked(0)


@pytest.mark.parametrize(
    ("ignore", "one", "other"),
    [
        (["options.seed"], {"options": {"seed": 1}}, {"options": {"seed": 2}}),
        (["options.seed"], {"options": {"seed": 1}}, {}),
        (["options"], {"options": {"seed": 1, "top_k": 3}}, {}),
        (["keep_alive"], {"keep_alive": "5m"}, {"keep_alive": 0}),
        (["messages.0.content"], chat("one"), chat("two")),
        (["messages.*.content"], chat("one"), chat("two")),
        (["messages.0"], chat("one"), chat("two")),
        (["format.title"], {"format": {"title": "a"}}, {"format": {}}),
        (["model"], {"name": "a"}, {"model": "b"}),
        (["stream"], {"stream": False}, {}),
    ],
)
def test_ignored_fields_make_no_difference(ignore: list[str], one: Any, other: Any) -> None:
    assert key(one) != key(other)
    assert key(one, ignore=ignore) == key(other, ignore=ignore)


def test_ignoring_what_is_no_object_changes_nothing() -> None:
    assert key({"think": True}, ignore=["think.level"]) == key({"think": True})


def test_ignoring_one_field_leaves_its_neighbours() -> None:
    def asked(*contents: str) -> str:
        messages = [{"role": "user", "content": text} for text in contents]
        return key({"messages": messages}, ignore=["messages.0.content", "options.seed"])

    assert asked("a", "b") == asked("x", "b")
    assert asked("a", "b") != asked("a", "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
fields = st.sampled_from(
    ["model", "name", "messages", "options", "format", "images", "stream", "tools", "think", "x"]
)
bodies = st.dictionaries(fields, json_values, max_size=6)


@pytest.mark.slow
@given(bodies, st.lists(st.text(), max_size=3))
def test_any_body_has_a_form_which_is_its_own_form(body: Any, ignore: list[str]) -> None:
    before = json.dumps(body)
    once = canonical_request("POST", "/api/chat", body, ignore=ignore)
    again = canonical_request("POST", "/api/chat", json.loads(json.dumps(once.body)))
    assert json.dumps(body) == before
    assert "images" in before or again.key == once.key


@pytest.mark.slow
@given(json_values, json_values)
def test_bodies_differ_exactly_where_differences_are_told(one: Any, other: Any) -> None:
    for first, second in ((one, other), (one, one), ({"format": one}, {"format": other})):
        forms = [canonical_request("POST", "/api/chat", each) for each in (first, second)]
        told = list(differing_fields(forms[0].body, forms[1].body))
        assert bool(told) is (forms[0].key != forms[1].key)


@pytest.mark.slow
@given(json_values, json_values)
def test_every_miss_can_be_told(one: Any, other: Any) -> None:
    bodies = ({"model": "m", "x": one}, {"model": "other", "x": other})
    told = miss(CallIndex([call(bodies[0])]), bodies[1])
    assert "model: logged 'm', asked 'other'" in told


# --- handing out ----------------------------------------------------------------------------


def test_equal_requests_get_their_calls_in_the_order_in_which_they_were_made() -> None:
    first, second, other = call(at=1.0), call(at=2.0), call(chat("x"), at=1.5)
    index = CallIndex([second, other, first])
    assert index.calls == (first, other, second)
    assert [take(index, chat()), take(index, chat())] == [first, second]
    assert index.unused == (other,)


def test_a_request_made_too_often_is_a_miss() -> None:
    index = CallIndex([call(at=1.0), call(at=2.0)], name="calls.jsonl")
    take(index, chat())
    take(index, chat())
    assert miss(index, chat()) == (
        "POST /api/chat of model 'm' was made 2 times in calls.jsonl, and is requested for the 3rd "
        "time; pass repeat=True to start over"
    )
    assert index.unused == ()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (1, "once in the log, and is requested for the 2nd"),
        (10, "10 times in the log, and is requested for the 11th"),
    ],
)
def test_how_often_is_told_in_english(times: int, words: str) -> None:
    index = CallIndex([call(at=float(number)) for number in range(times)])
    for _ in range(times):
        take(index, chat())
    assert words in miss(index, chat())


def test_with_repeat_a_request_starts_over() -> None:
    first, second = call(at=1.0), call(at=2.0)
    index = CallIndex([first, second], repeat=True)
    assert [take(index, chat()) for _ in range(5)] == [first, second, first, second, first]


def test_threads_get_each_call_once() -> None:
    calls = [call(at=float(number)) for number in range(200)]
    index = CallIndex(calls)
    taken: list[Any] = []

    def ask() -> None:
        taken.extend(take(index, chat()) for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.id for each in taken) == sorted(each.id for each in calls)


def test_both_sides_are_compared_as_they_were_redacted() -> None:
    def redactor(text: str) -> str:
        return text.replace("secret", "[redacted: WORD]")

    kept = call(chat("my [redacted: WORD]"), changes=["redacted"])
    assert take(CallIndex([kept], redactors=[redactor]), chat("my secret")) is kept
    assert miss(CallIndex([kept]), chat("my secret")).endswith(
        "\n  messages[0].content: logged 'my [redacted: WORD]', asked 'my secret'"
        "\nThe log was redacted: pass the redactors it was recorded with"
    )


def test_a_log_is_read_from_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", lines(at=1.0), lines(chat("x"), at=2.0))
    index = CallIndex.load(path)
    assert len(index.calls) == 2
    assert str(path) in miss(index, chat("nothing of the kind"))
    assert CallIndex.load(index) is index


def test_a_file_that_is_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReplayLogError):
        CallIndex.load(tmp_path / "nothing.jsonl")


def test_a_route_is_known_whatever_was_asked_of_it() -> None:
    index = CallIndex([call(path="/x/api/unheard_of")])
    assert index.knows("POST", "/y/api/unheard_of")
    assert not index.knows("GET", "/api/unheard_of")
    assert not index.knows("GET", "/api/tags")


# --- misses ---------------------------------------------------------------------------------


def test_an_empty_log_says_so() -> None:
    assert miss(CallIndex([]), chat()) == (
        "POST /api/chat of model 'm' has no answer: the log has no calls"
    )


def test_a_miss_shows_the_nearest_request_field_by_field() -> None:
    index = CallIndex(
        [
            call(chat("Good bye", options={"seed": 7}), at=1.0, line=3),
            call(chat("Hello", options={"seed": 7}), at=2.0, line=5),
            call(chat("Hello", format="json", options={"seed": 8}), at=3.0, line=7),
        ],
        name="logs/calls.jsonl",
    )
    assert miss(index, chat("Hallo")) == (
        "POST /api/chat of model 'm' has no answer in logs/calls.jsonl, which has 3 calls; "
        "the nearest was logged in calls.jsonl, line 3, and differs in:\n"
        "  messages[0].content: logged 'Good bye', asked 'Hallo'\n"
        '  options: logged {"seed": 7}, asked nothing'
    )


def test_a_miss_for_options_only_says_what_to_ignore() -> None:
    index = CallIndex([call(chat(options={"seed": 7, "top_k": 1}, keep_alive="5m"))])
    assert miss(index, chat(options={"top_k": 1})) == (
        "POST /api/chat of model 'm' has no answer in the log, which has 1 call; "
        "the nearest was logged in calls.jsonl, line 1, and differs in:\n"
        "  options.seed: logged 7, asked nothing\n"
        "  keep_alive: logged '5m', asked nothing\n"
        "It would match with ignore=['keep_alive', 'options.seed']"
    )


def test_nothing_is_advised_to_ignore_where_it_would_not_help() -> None:
    kept = call(chat(options={"seed": 7}), is_ended=False)
    assert "ignore=" not in miss(CallIndex([kept]), chat())
    told = miss(CallIndex([kept, call(chat(options={"seed": 8}), at=1.0, line=5)]), chat())
    assert "line 5" in told
    assert "ignore=['options']" in told


def test_what_is_advised_to_ignore_then_matches() -> None:
    kept = call(chat(options={"seed": 7}, keep_alive="5m"))
    ignore = ["keep_alive", "options"]
    assert f"ignore={ignore!r}" in miss(CallIndex([kept]), chat())
    assert take(CallIndex([kept], ignore=ignore), chat()) is kept


def test_long_texts_are_cut_to_where_they_differ() -> None:
    index = CallIndex([call(chat("a" * 5000 + "one" + "b" * 5000))])
    told = miss(index, chat("a" * 5000 + "two" + "b" * 5000))
    (line,) = [line for line in told.splitlines() if "content" in line]
    assert line == (
        f"  messages[0].content: logged ...'{'a' * 20}one{'b' * 37}'..., "
        f"asked ...'{'a' * 20}two{'b' * 37}'..."
    )


def test_a_long_value_on_one_side_only_is_cut() -> None:
    index = CallIndex([call(chat())])
    told = miss(index, chat(format={"title": "x" * 500}, suffix="y" * 500))
    assert 'format: logged nothing, asked {"title": "xxx' in told
    assert max(map(len, told.splitlines())) < 200


def test_only_some_of_many_differences_are_told() -> None:
    index = CallIndex([call(chat())])
    told = miss(index, chat(**{f"x{number}": number for number in range(20)}))
    assert told.endswith("\n  and 12 more")


def test_a_route_that_was_never_asked_names_those_that_were() -> None:
    index = CallIndex([call(), call(None, path="/api/tags", method="GET")])
    assert miss(index, {"model": "m", "prompt": "x"}, "/api/generate") == (
        "POST /api/generate of model 'm' has no answer in the log, which has 2 calls, none of "
        "this route: GET /api/tags, POST /api/chat"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"has_bodies": False}, "was recorded without bodies; record with replay_bodies=True"),
        ({"is_ended": False}, "has no end in the log"),
        ({"pieces": None}, "was recorded without bodies; record with replay_bodies=True"),
        ({"changes": ["vectors"]}, "its vectors were not kept; record with replay_media=True"),
        (
            {"changes": ["images"], "pieces": [(0.1, b'{"image":{"ollama_otel":"omitted"}}')]},
            "its images were not kept; record with replay_media=True",
        ),
        ({"missing": "too_long"}, "its body was longer than the log's limit"),
        ({"missing": "queue_full"}, "its body was dropped, as the log's queue was full"),
        ({"missing": "encoding"}, "its body had an encoding that the log cannot decode"),
        ({"missing": "unheard_of"}, "cannot be played: unheard_of"),
        ({"http_status": 307}, "redirects are not played"),
    ],
)
def test_a_call_that_cannot_be_played_says_why(options: dict[str, Any], words: str) -> None:
    told = miss(CallIndex([call(**options)]), chat())
    assert told.startswith(
        "POST /api/chat of model 'm' has no answer in the log, which has 1 call; "
        "the nearest was logged in calls.jsonl, line 1, but "
    )
    assert words in told


def test_a_call_that_never_ended_does_not_stand_in_the_way_of_one_that_did() -> None:
    ended = call(at=2.0)
    index = CallIndex([call(at=1.0, is_ended=False), ended])
    assert take(index, chat()) is ended
    assert index.unused == ()


WORDS = f"data:image/png;base64,{IMAGE} of joe@example.com"


@pytest.mark.parametrize(
    "message",
    [
        {"content": "x", "images": [IMAGE]},
        {"content": "x", "images": [f"data:image/png;base64,{IMAGE}"]},
        {"content": f"data:image/png;base64,{IMAGE}"},
        {
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
            ]
        },
        {"content": f"![here](data:image/png;base64,{IMAGE * 9})"},
        {"content": WORDS},
    ],
)
@pytest.mark.parametrize("keeps_media", [False, True, "answers", None])
def test_a_request_with_images_is_found_however_they_were_logged(
    message: dict[str, Any], keeps_media: KeptMedia | None
) -> None:
    """None: as in cassettes of version 0.1, with whole images and text behind them as it was."""
    asked = chat(messages=[{"role": "user", **message}])
    stored = asked
    if keeps_media is not None:
        stored, _ = BodyPolicy(keeps_media=keeps_media).request(content(asked), NATIVE)
    kept = call(stored)
    assert take(CallIndex([kept]), asked) is kept


def test_marks_of_images_without_their_type_are_those_of_older_logs() -> None:
    image = base64.b64encode(b"\x89PNG\r\n\x1a\npixels").decode()
    pixels = base64.b64decode(image)
    mark = {"sha256": hashlib.sha256(pixels).hexdigest(), "size": len(pixels)}
    kept = call(chat(images=[{"ollama_otel": "omitted", **mark}]), changes=["images"])
    assert take(CallIndex([kept]), chat(images=[image])) is kept
    url = call(chat(url={"ollama_otel": "omitted", **mark}), changes=["images"])
    assert take(CallIndex([url]), chat(url=f"data:image/png;base64,{image}")) is url


def test_images_that_were_asked_only_do_not_keep_a_call_from_being_played() -> None:
    kept = call(chat(images=[OMITTED]), changes=["images"])
    assert take(CallIndex([kept]), chat(images=[IMAGE])) is kept


def test_a_call_that_never_got_an_answer_can_be_played() -> None:
    kept = call(pieces=None, http_status=None, outcome="failed", error_type="connect")
    assert take(CallIndex([kept]), chat()) is kept


# --- what cannot be meant -------------------------------------------------------------------


def test_one_text_is_no_list_of_fields_to_ignore() -> None:
    with pytest.raises(SettingsError, match=r"not one text: ignore=\['options.seed'\]"):
        CallIndex([call()], ignore="options.seed")


@pytest.mark.parametrize(
    "options", [{"ignore": ["x"]}, {"repeat": True}, {"redactors": [str.lower]}]
)
def test_options_beside_an_index_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="give them to it"):
        CallIndex.load(CallIndex([call()]), **options)


# --- what a miss advises, and what it costs -------------------------------------------------


@pytest.mark.parametrize("kind", ["email", "api_key", "x-api-key"])
def test_redactors_are_not_asked_for_where_the_built_in_ones_were_at_work(kind: str) -> None:
    kept = call(chat(f"my [redacted: {kind}]"), changes=["redacted"])
    assert "redactors" not in miss(CallIndex([kept]), chat("my secret"))
    elsewhere = call(chat("Hello", key=f"[redacted: {kind}]"), changes=["redacted"])
    told = miss(CallIndex([elsewhere]), chat("Bye", key=f"[redacted: {kind}]"))
    assert "redactors" not in told


def test_a_redactor_that_leaves_no_mark_is_asked_for() -> None:
    kept = call(chat("Bonjour"), changes=["redacted"])
    assert "pass the redactors" in miss(CallIndex([kept]), chat("Hello"))


def test_of_many_calls_only_those_of_the_model_and_about_the_size_are_compared() -> None:
    def padded(size: int, **fields: Any) -> dict[str, Any]:
        return chat("x" * size, suffix="y", **fields)

    same_size = [call(padded(2000, format="a"), line=1) for _ in range(200)]
    long = call(padded(9000), line=2)
    other_model = call(padded(2002, model="other"), line=3)
    asked = padded(2002)
    assert "line 2," in miss(CallIndex([*same_size[:150], long]), asked)
    assert "line 1," in miss(CallIndex([*same_size, long, other_model]), asked)
