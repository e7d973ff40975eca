"""Cassettes: readable, lossless to the byte, quiet about what changes each time, clear when broken."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.cassette import is_cassette, lines_of, read_cassette, write_cassette
from ollama_otel._log.format import call_from
from ollama_otel._wire.endpoints import added_dialect
from ollama_otel.errors import ReplayLogError
from ollama_otel.replay import read
from tests.toy_dialect import ASK, TOY

REQUEST: dict[str, Any] = {
    "v": 1,
    "event": "request",
    "id": "4f3a2b1c-7",
    "at": "2026-01-02T03:04:05.000006Z",
    "operation": "chat",
    "method": "POST",
    "path": "/api/chat",
    "server": "127.0.0.1",
    "port": 11434,
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "sampled": True,
    "request": {"model": "m", "stream": True, "size": 64},
    "body": {"model": "m", "messages": [{"role": "user", "content": "Grüße,\nline two"}]},
}
NEW_EACH_TIME = ("id", "trace_id", "span_id", "sampled")
LINES = (
    '{"model":"m","message":{"role":"assistant","content":"Hi"},"done":false}\n',
    '{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":1}\n',
)


def end(*pieces: Any, **fields: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "event": "end",
        "id": "4f3a2b1c-7",
        "at": "2026-01-02T03:04:06.000006Z",
        "operation": "chat",
        "model": "m",
        "outcome": "completed",
        "status": 200,
        "duration": 1.0,
        "content_type": "application/x-ndjson",
        "chunks": [[0.012, piece] for piece in pieces],
        **fields,
    }


def written(tmp_path: Path, *calls: Any) -> Path:
    path = tmp_path / "cassette.json"
    write_cassette(path, calls)
    return path


def replayed(path: Path) -> RecordedCall:
    (call,) = read_cassette(path)
    return call


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_a_cassette_is_laid_out_to_be_read(tmp_path: Path) -> None:
    text = written(tmp_path, (REQUEST, end(*LINES))).read_text(encoding="utf-8")
    assert text == (
        """\
{
  "format": "ollama_otel.cassette",
  "v": 1,
  "calls": [
    {
      "request": {
        "v": 1,
        "event": "request",
        "id": "1",
        "at": "2026-01-02T03:04:05.000006Z",
        "operation": "chat",
        "method": "POST",
        "path": "/api/chat",
        "server": "127.0.0.1",
        "port": 11434,
        "request": {
          "model": "m",
          "stream": true,
          "size": 64
        },
        "body": {
          "model": "m",
          "messages": [
            {
              "role": "user",
              "content": "Grüße,\\nline two"
            }
          ]
        }
      },
      "end": {
        "v": 1,
        "event": "end",
        "id": "1",
        "at": "2026-01-02T03:04:06.000006Z",
        "operation": "chat",
        "model": "m",
        "outcome": "completed",
        "status": 200,
        "duration": 1.0,
        "content_type": "application/x-ndjson",
        "chunks": [
          [0.012, {"json": {"model":"m","message":{"role":"assistant","content":"Hi"},"done":false}}],
          [0.012, {"json": {"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":1}}]
        ]
      }
    }
  ]
}
"""
    )


def test_a_cassette_is_read_as_the_call_that_was_logged(tmp_path: Path) -> None:
    path = written(tmp_path, (REQUEST, end(*LINES)))
    lasting = {name: value for name, value in REQUEST.items() if name not in NEW_EACH_TIME}
    call, logged = replayed(path), call_from(lasting | {"id": "1"}, end(*LINES), file=path, line=6)
    assert (call.start, call.record, call.chunks) == (logged.start, logged.record, logged.chunks)
    assert (call.id, call.trace_id, call.span_id, call.is_sampled) == ("1", None, None, False)
    assert (call.file, call.line) == (path, 6)


def test_the_general_reader_reads_a_cassette(tmp_path: Path) -> None:
    path = written(tmp_path, (REQUEST, end(*LINES)))
    assert [call.body for call in read(path)] == ["".join(LINES).encode()]


def test_calls_are_numbered_and_say_where_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, (REQUEST, end(LINES[0])), (REQUEST, None))
    rows = path.read_text(encoding="utf-8").splitlines()
    first, second = read_cassette(path)
    assert (first.id, second.id) == ("1", "2")
    assert second.record is None
    assert rows[first.line - 1] == rows[second.line - 1] == '      "request": {'
    assert first.line < second.line


def test_a_cassette_laid_out_by_another_hand_is_read_as_well(tmp_path: Path) -> None:
    path = written(tmp_path, (REQUEST, end(*LINES)))
    before = replayed(path)
    path.write_text(json.dumps(json.loads(path.read_bytes())), encoding="utf-8-sig")
    assert is_cassette(path)
    after = replayed(path)
    assert (after.chunks, after.start, after.line) == (before.chunks, before.start, 1)


@pytest.mark.parametrize(
    ("piece", "stored"),
    [
        ('{"a":1}\n', {"json": {"a": 1}}),
        ('{"a":1}\n{"b":"\u2028\x85"}\n', {"json": [{"a": 1}, {"b": "\u2028\x85"}]}),
        ('{"a":1}', {"document": {"a": 1}}),
        ("", ""),
        ("\n", "\n"),
        ("[1]\n", "[1]\n"),
        ('{"a":1}\n{"a":', '{"a":1}\n{"a":'),
        ('{"a":1}\r\n', '{"a":1}\r\n'),
        ('{"a": 1}\n', '{"a": 1}\n'),
        ('{"a":"\\u003c"}\n', '{"a":"\\u003c"}\n'),
        ('{"a":1,"a":1}\n', '{"a":1,"a":1}\n'),
        ('{"a":1e5}\n', '{"a":1e5}\n'),
        ('{"a":NaN}\n', '{"a":NaN}\n'),
        ('{"a":-0}\n', '{"a":-0}\n'),
        ('{"a":1e999}\n', '{"a":1e999}\n'),
        ({"base64": "/w=="}, {"base64": "/w=="}),
    ],
)
def test_only_json_that_comes_back_the_same_is_stored_as_json(
    tmp_path: Path, piece: Any, stored: Any
) -> None:
    path = written(tmp_path, (REQUEST, end(piece)))
    (call,) = json.loads(path.read_bytes())["calls"]
    assert call["end"]["chunks"] == [[0.012, stored]]
    expected = piece.encode() if isinstance(piece, str) else base64.b64decode(piece["base64"])
    assert replayed(path).body == expected


# --- server-sent events ---------------------------------------------------------------------


def written_events(path: Path, *pieces: Any) -> Path:
    with added_dialect(TOY, ASK):
        write_cassette(path, [({**REQUEST, "path": ASK.path}, end(*pieces))])
    return path


@pytest.mark.parametrize(
    ("piece", "stored"),
    [
        ('data: {"a":1}\n\n', {"sse": {"a": 1}}),
        ('data: {"a":"ü"}\n\ndata: [END]\n\n', {"sse": [{"a": "ü"}, "[END]"]}),
        ("data: [END]\n\n", {"sse": "[END]"}),
        ('data: {"a": 1}\n\n', 'data: {"a": 1}\n\n'),
        ('data: {"a":1}\r\n\r\n', 'data: {"a":1}\r\n\r\n'),
        ('data:{"a":1}\n\n', 'data:{"a":1}\n\n'),
        ('event: x\ndata: {"a":1}\n\n', 'event: x\ndata: {"a":1}\n\n'),
        (": comment\n\n", ": comment\n\n"),
        ("data: hello\n\n", "data: hello\n\n"),
        ('data: {"a":1}\n\ndata: {"b"', 'data: {"a":1}\n\ndata: {"b"'),
        ('{"a":1}\n', '{"a":1}\n'),
        ('{"a":1}', {"document": {"a": 1}}),
    ],
)
def test_events_that_come_back_the_same_are_stored_as_json(
    tmp_path: Path, piece: str, stored: Any
) -> None:
    path = written_events(tmp_path / "events.json", piece)
    (call,) = json.loads(path.read_bytes())["calls"]
    assert call["end"]["chunks"] == [[0.012, stored]]
    # Also by a process that does not know the dialect.
    assert replayed(path).body == piece.encode()


@given(st.lists(st.text(st.sampled_from('dat: {}"a1\r\n[END]\ud800')), max_size=4))
def test_no_byte_of_an_event_is_lost(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "events.json"
    pieces = [f"data: {part}\n\n" for part in parts] + parts
    try:
        expected = [piece.encode() for piece in pieces]
    except UnicodeEncodeError:
        # Only in a log that was edited by hand.
        written_events(path, *pieces)
        return
    written_events(path, *pieces)
    chunks = replayed(path).chunks
    assert chunks is not None
    assert [chunk.data for chunk in chunks] == expected


PIECES = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.lists(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(st.characters(exclude_categories=["Cs"])),
            ),
        ),
        min_size=1,
        max_size=3,
    ).flatmap(
        lambda objects: st.sampled_from(
            [
                "".join(f"{as_json(each)}\n" for each in objects).encode(),
                "".join(f"{json.dumps(each)}\n" for each in objects).encode(),
                "\n".join(map(as_json, objects)).encode(),
            ]
        )
    ),
)


@pytest.mark.slow
@given(st.lists(PIECES, max_size=5))
def test_no_byte_of_an_answer_is_lost(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "property" / "cassette.json"
    logged = []
    for piece in pieces:
        try:
            logged.append(piece.decode())
        except UnicodeDecodeError:
            logged.append({"base64": base64.b64encode(piece).decode()})
    write_cassette(path, [(REQUEST, end(*logged))])
    chunks = replayed(path).chunks
    assert chunks is not None
    assert [chunk.data for chunk in chunks] == pieces


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def has_half_a_pair(value: Any) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, min_size=1).filter(lambda body: not has_half_a_pair(body)))
def test_a_request_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, body: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "property" / "request.json"
    write_cassette(path, [({**REQUEST, "body": body}, None)])
    assert replayed(path).request_body == body


def test_half_of_a_surrogate_pair_is_kept_as_json_has_it(tmp_path: Path) -> None:
    path = written(tmp_path, ({**REQUEST, "body": {"prompt": '\\"\ud83d'}}, None))
    path.read_text(encoding="utf-8")
    assert replayed(path).request_body == {"prompt": '\\"\ud83d'}


def test_an_empty_cassette_has_no_calls(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert json.loads(path.read_bytes())["calls"] == []
    assert is_cassette(path)
    assert list(read_cassette(path)) == []


def test_a_log_is_no_cassette(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_text(as_json(REQUEST) + "\n", encoding="utf-8")
    assert not is_cassette(log)


def test_the_calls_of_a_log_are_paired_in_the_order_they_were_begun(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    requests = [{**REQUEST, "id": name} for name in "abc"]
    lines = [
        {"v": 1, "event": "opened"},
        *requests,
        {**end(), "id": "b"},
        {**end(), "id": "a"},
    ]
    log.write_text("".join(f"{as_json(line)}\n" for line in lines), encoding="utf-8")
    paired = [(request["id"], ended and ended["id"]) for request, ended in lines_of(log)]
    assert paired == [("a", "a"), ("b", "b"), ("c", None)]


def test_a_failed_write_leaves_the_old_cassette_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path, (REQUEST, end(*LINES)))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_cassette(path, [({**REQUEST, "body": object()}, None)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_cassette_that_cannot_be_put_in_its_place_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "cassette.json"
    (path / "folder").mkdir(parents=True)
    with pytest.raises(OSError):
        write_cassette(path, [(REQUEST, None)])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{\n  "format": "ollama_otel.cassette",\n  "calls": [\n', r"line 4: .*record it again"),
        (b'{"format": "ollama_otel.cassette", "\xff": 1}', r"line 1: .*invalid JSON"),
        ('{"format": "other"}', 'found no "format"'),
        ("[]", 'found no "format"'),
        ('{"format": "ollama_otel.cassette", "v": 2, "calls": []}', "found 2: update ollama_otel"),
        ('{"format": "ollama_otel.cassette", "calls": []}', "found None"),
        ('{"format": "ollama_otel.cassette", "v": 1}', 'expected the list "calls"'),
        ('{"format": "ollama_otel.cassette", "v": 1, "calls": [7]}', "line 1: expected call 1"),
        ('{"format": "ollama_otel.cassette", "v": 1, "calls": [{}]}', "KeyError: 'request'"),
    ],
)
def test_a_broken_cassette_is_told_with_file_and_place(
    tmp_path: Path, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReplayLogError, match=complaint) as raised:
        list(read_cassette(path))
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("chunk", [[0.1, {"base64": "?"}], [0.1, {}], [0.1, None], [0.1], "x"])
def test_a_broken_chunk_is_told_with_its_line(tmp_path: Path, chunk: Any) -> None:
    path = written(tmp_path, (REQUEST, None), (REQUEST, end("x")))
    cassette = json.loads(path.read_bytes())
    cassette["calls"][1]["end"]["chunks"] = [chunk]
    path.write_text(json.dumps(cassette, indent=2), encoding="utf-8")
    calls = read_cassette(path)
    next(calls)
    with pytest.raises(ReplayLogError, match=r"line \d\d+: expected call 2 in the format of"):
        next(calls)


def test_a_call_of_a_newer_format_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, ({**REQUEST, "v": 3}, None))
    with pytest.raises(
        ReplayLogError, match=r"line 6: recorded in version 3 .* reads up to 2: upgrade it"
    ):
        list(read_cassette(path))


def test_the_time_of_an_end_may_be_left_out(tmp_path: Path) -> None:
    timeless = {name: value for name, value in end("Hello").items() if name != "at"}
    call = replayed(written(tmp_path, (REQUEST, timeless)))
    assert (call.body, call.record is not None) == (b"Hello", True)


@given(st.binary(max_size=60))
def test_no_damage_gives_anything_but_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "property" / "damaged.json"
    write_cassette(path, [(REQUEST, end(*LINES))])
    content = path.read_bytes()
    at = 7 * len(damage) % len(content)
    path.write_bytes(content[:at] + damage + content[at + len(damage) :])
    try:
        list(read_cassette(path))
    except ReplayLogError as error:
        assert str(path) in str(error)


# --- folders ----------------------------------------------------------------------------------


def folder_of_cassettes(folder: Path) -> Path:
    """Write cassettes as pytest does, and files that are none."""
    for number, name in enumerate(("shop/test_a", "shop/test_b", "test_c", "other/test_a")):
        request = {**REQUEST, "at": f"2026-01-02T03:04:0{number}.000006Z"}
        write_cassette(folder / f"{name}.json", [(request, end(*LINES)), (REQUEST, None)])
    (folder / "package.json").write_text('{"format": "other"}')
    (folder / "shop" / "broken.json").write_bytes(b"\xff")
    return folder


def test_a_folder_of_cassettes_is_a_log_with_unique_ids(tmp_path: Path) -> None:
    folder = folder_of_cassettes(tmp_path)
    calls = list(read(folder))
    names = ("other/test_a", "shop/test_a", "shop/test_b", "test_c")
    assert [call.id for call in calls] == [f"{name}-{n}" for name in names for n in (1, 2)]
    assert [call.file for call in calls[::2]] == [folder / f"{name}.json" for name in names]
    assert calls[0].body == "".join(LINES).encode()
    # The file alone has the ids that are written in it.
    assert [call.id for call in read(folder / "test_c.json")] == ["1", "2"]


def test_logs_and_cassettes_of_one_folder_are_read(tmp_path: Path) -> None:
    lines = (REQUEST, {**end(*LINES), "id": REQUEST["id"]})
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_cassette(tmp_path / "test_c.json", [(REQUEST, end(*LINES))])
    assert [call.id for call in read(tmp_path)] == ["4f3a2b1c-7", "test_c-1"]


def test_of_a_folder_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = folder_of_cassettes(tmp_path / "elsewhere")
    folder = tmp_path / "cassettes"
    write_cassette(folder / "test_own.json", [(REQUEST, None)])
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked.json").symlink_to(elsewhere / "test_c.json")
    assert [call.id for call in read(folder)] == ["test_own-1"]


def test_a_folder_without_logs_and_cassettes_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    with pytest.raises(ReplayLogError, match="a folder with logs or cassettes"):
        read(tmp_path)
