"""Every route of the server has its row, or stands here as one that has none yet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel._wire.endpoints import ENDPOINTS, find_endpoint
from tests.examples import examples

# Server 0.33.0, `server/routes.go`: method, path, name, GenAI operation, streams by default, response.
NATIVE: list[tuple[str, str, str, str | None, bool | None, str]] = [
    ("GET", "/api/version", "get_version", None, None, "opaque"),
    ("HEAD", "/api/version", "get_version", None, None, "opaque"),
    ("GET", "/api/status", "get_status", None, None, "opaque"),
    ("POST", "/api/generate", "generate", "text_completion", True, "completion"),
    ("POST", "/api/chat", "chat", "chat", True, "completion"),
    ("POST", "/api/embed", "embed", "embeddings", None, "embedding"),
    ("POST", "/api/embeddings", "embeddings", "embeddings", None, "embedding"),
    ("GET", "/api/tags", "list_models", None, None, "opaque"),
    ("HEAD", "/api/tags", "list_models", None, None, "opaque"),
    ("GET", "/api/ps", "list_running_models", None, None, "opaque"),
    ("POST", "/api/show", "show_model", None, None, "opaque"),
    ("POST", "/api/create", "create_model", None, True, "progress"),
    ("POST", "/api/copy", "copy_model", None, None, "opaque"),
    ("DELETE", "/api/delete", "delete_model", None, None, "opaque"),
    ("POST", "/api/pull", "pull_model", None, True, "progress"),
    ("POST", "/api/push", "push_model", None, True, "progress"),
    ("HEAD", "/api/blobs/sha256:ab12", "check_blob", None, None, "opaque"),
    ("POST", "/api/blobs/sha256:ab12", "create_blob", None, None, "opaque"),
    ("POST", "/api/me", "get_account", None, None, "opaque"),
    ("POST", "/api/signout", "sign_out", None, None, "opaque"),
    ("DELETE", "/api/user/keys/c3NoLWVk", "sign_out", None, None, "opaque"),
    ("POST", "/api/experimental/web_search", "web_search", None, None, "opaque"),
    ("POST", "/api/experimental/web_fetch", "web_fetch", None, None, "opaque"),
    (
        "GET",
        "/api/experimental/model-recommendations",
        "list_recommended_models",
        None,
        None,
        "opaque",
    ),
]
# Not the local server's: those of ollama.com, and what the official client 0.6.3 asks for.
ELSEWHERE: list[tuple[str, str, str, str | None, bool | None, str]] = [
    ("POST", "/api/web_search", "web_search", None, None, "opaque"),
    ("POST", "/api/web_fetch", "web_fetch", None, None, "opaque"),
    ("POST", "/v1/systemone", "score_questions", None, None, "usage"),
]
NOT_YET = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/llama3.2"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/messages"),
]
ROWS = [*NATIVE, *ELSEWHERE]


@pytest.mark.parametrize(("method", "path", "name", "operation", "streams", "response"), ROWS)
def test_a_route_has_its_row(
    method: str, path: str, name: str, operation: str | None, streams: bool | None, response: str
) -> None:
    row = find_endpoint(method, path)
    assert row is not None
    assert (row.method, row.name, row.genai_operation, row.streams_by_default, row.response) == (
        *(method, name, operation, streams, response),
    )
    assert row.dialect == "native"


def test_there_is_no_row_without_a_route() -> None:
    found = [find_endpoint(method, path) for method, path, *_ in ROWS]
    assert set(ENDPOINTS) == set(found)
    assert len(ENDPOINTS) == len(ROWS)


def test_the_routes_that_take_an_input_know_its_field() -> None:
    assert {
        row.path: (row.input_field, row.can_unload) for row in ENDPOINTS if row.input_field
    } == {
        "/api/generate": ("prompt", True),
        "/api/chat": ("messages", True),
        "/api/embed": ("input", False),
        "/api/embeddings": ("prompt", False),
    }


def test_only_the_question_for_a_blob_is_answered_by_an_absence() -> None:
    assert [row.name for row in ENDPOINTS if row.missing_is_an_answer] == ["check_blob"]


@pytest.mark.parametrize("prefix", ["", "/ollama"])
def test_a_route_that_has_no_row_yet_is_left_alone(prefix: str) -> None:
    found = [(method, path) for method, path in NOT_YET if find_endpoint(method, prefix + path)]
    assert found == []


@pytest.mark.parametrize("prefix", ["/ollama", "/a/b", "/api", "/api/v2", "/v1", "/x/v1/y", "//"])
def test_a_prefix_before_the_route_changes_nothing(prefix: str) -> None:
    for method, path, *_ in ROWS:
        assert find_endpoint(method, prefix + path) is find_endpoint(method, path)


@pytest.mark.parametrize(
    "wrong", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "", "post"]
)
def test_a_route_is_known_by_its_own_methods_only(wrong: str) -> None:
    for route in {row[1] for row in ROWS}:
        known = {method for method, path, *_ in ROWS if path == route}
        assert (find_endpoint(wrong, route) is not None) == (wrong in known)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("POST", "/api"),
        ("POST", "/api/"),
        ("POST", "/api/chat/"),
        ("POST", "/api/chat/completions"),
        ("POST", "/apis/chat"),
        ("POST", "/API/chat"),
        ("POST", "api/chat"),
        ("POST", "/xapi/chat"),
        ("POST", "/api/chatty"),
        ("POST", "/chat"),
        ("GET", "/api/tag"),
        ("POST", "/api/blobs/"),
        ("POST", "/api/blobs"),
        ("POST", "/api/blobs/sha256:ab/c"),
        ("DELETE", "/api/user/keys/"),
        ("POST", "/v1/systemone/x"),
        ("GET", "/metrics"),
        ("GET", "/api/blobs/sha256:ab12"),
    ],
)
def test_what_is_not_the_servers_is_left_alone(method: str, path: str) -> None:
    assert find_endpoint(method, path) is None


@settings(max_examples=examples(300))
@given(
    st.sampled_from(["GET", "POST", "HEAD", "DELETE"]),
    st.lists(
        st.sampled_from(["/", "api", "v1", "chat", "blobs", "user", "keys", "x", "", "\udcff"])
    ).map("/".join),
)
def test_any_path_is_found_or_not(method: str, path: str) -> None:
    row = find_endpoint(method, path)
    assert row is None or row.method == method
