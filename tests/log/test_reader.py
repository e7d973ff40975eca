"""Reading a log: what is whole is read, what is torn is told, what is no log is an error."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel.errors import ReplayLogError
from ollama_otel.replay import Skipped, read
from tests.examples import examples

OPENED = {"v": 1, "event": "opened", "at": "2026-01-01T00:00:00.000000Z", "run": "r", "pid": 1}


def at(seconds: float) -> str:
    return f"2026-01-01T00:00:{seconds:09.6f}Z"


def request(call_id: str, seconds: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "event": "request",
        "id": call_id,
        "at": at(seconds),
        "operation": "chat",
        "method": "POST",
        "path": "/api/chat",
        "request": {"model": "m"},
    } | fields


def end(call_id: str, seconds: float = 2.0, **fields: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "event": "end",
        "id": call_id,
        "at": at(seconds),
        "outcome": "completed",
        "duration": 1.0,
    } | fields


def write(path: Path, lines: Sequence[dict[str, Any] | bytes]) -> Path:
    data = b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def ids(path: Path, report: list[Skipped] | None = None) -> list[str]:
    skipped: list[Skipped] = []
    calls = [call.id for call in read(path, report=skipped.append)]
    assert skipped == [] or report is not None
    if report is not None:
        report += skipped
    return calls


def test_calls_come_in_the_order_of_their_ends(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [OPENED, request("1"), request("2"), end("2"), request("3"), end("1"), end("3")],
    )
    assert ids(path) == ["2", "1", "3"]


def test_calls_that_never_ended_come_last(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [request("1"), request("2"), end("2")])
    first, second = read(path)
    assert (first.id, second.id, second.record) == ("2", "1", None)
    assert (second.file, second.line) == (path, 1)


def test_a_call_may_begin_in_one_file_and_end_in_the_next(tmp_path: Path) -> None:
    write(tmp_path / "a.20260101T000000000000Z-7.jsonl.gz", [OPENED, request("1", 1.0)])
    write(tmp_path / "a.20260101T000001000000Z-7.jsonl", [OPENED, end("1", 2.0), request("2", 3.0)])
    write(tmp_path / "a.jsonl", [OPENED, end("2", 4.0)])
    assert ids(tmp_path / "a.jsonl") == ["1", "2"]
    assert ids(tmp_path) == ["1", "2"]


def test_files_of_several_processes_are_merged_by_time(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [request("1", 1), end("1", 2), request("4", 6), end("4", 7)])
    write(tmp_path / "a.pid77.jsonl", [request("2", 2), end("2", 3), request("3", 4), end("3", 5)])
    write(tmp_path / "b.jsonl", [request("other", 1), end("other", 9)])
    write(tmp_path / "a.2026.jsonl", [request("another", 1), end("another", 8)])
    assert ids(tmp_path / "a.jsonl") == ["1", "2", "3", "4"]
    assert ids(tmp_path) == ["1", "2", "3", "4", "another", "other"]


def test_a_clock_that_was_set_back_between_two_files_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.20260101T000000000000Z-7.jsonl", [request("1", 30)])
    write(tmp_path / "a.jsonl", [end("1", 20)])
    assert ids(tmp_path / "a.jsonl") == ["1"]


def test_the_end_of_a_call_whose_begin_was_let_go_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [end("1"), request("2"), end("2")])
    skipped: list[Skipped] = []
    assert ids(path, skipped) == ["2"]
    [told] = skipped
    assert str(told) == f"{path}:1: an end line without its request line"


def test_many_ends_without_a_begin_are_told_once_with_their_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.jsonl", [*(end(f"old {number}") for number in range(1200)), OPENED])
    write(tmp_path / "b.jsonl", [end("other"), b'{"v":1', OPENED, b'{"v":1'][:2])
    write(tmp_path / "c.jsonl", [request("1"), end("1"), b'{"v":1'])
    skipped: list[Skipped] = []
    assert ids(tmp_path, skipped) == ["1"]
    assert {told.reason: told.count for told in skipped} == {
        "an end line without its request line": 1201,
        "an unfinished line is skipped": 2,
    }
    list(read(path))
    assert caplog.messages == [f"{path}:1: an end line without its request line, and 1,199 more"]


def test_a_reader_that_stops_early_is_told_what_was_skipped_so_far(tmp_path: Path) -> None:
    lines = [request("1"), end("1"), b'{"v":1\n', OPENED, request("2"), end("2"), b'{"v":1']
    skipped: list[Skipped] = []
    calls = read(write(tmp_path / "a.jsonl", lines), report=skipped.append)
    assert [next(calls).id, next(calls).id] == ["1", "2"]
    assert skipped == []
    calls.close()  # type: ignore[attr-defined]
    assert [told.count for told in skipped] == [1]


def test_a_torn_last_line_is_skipped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.jsonl", [request("1"), end("1"), b'{"v":1,"event":"requ'])
    assert [call.id for call in read(path)] == ["1"]
    assert f"{path}:3: an unfinished line is skipped" in caplog.text


def test_a_torn_line_before_the_next_process_is_skipped_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [request("1"), end("1"), b'{"v":1\n', OPENED, request("2")])
    skipped: list[Skipped] = []
    assert ids(path, skipped) == ["1", "2"]
    assert [(told.file, told.line) for told in skipped] == [(path, 3)]


@settings(max_examples=examples(50))
@given(cut=st.integers(min_value=0))
def test_a_log_cut_anywhere_gives_all_whole_lines(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "a.jsonl"
    lines = [line for n in range(4) for line in (request(f"{n}", note="ü☃"), end(f"{n}"))]
    whole = write(path, lines).read_bytes()
    data = whole[: cut % (len(whole) + 1)]
    path.write_bytes(data)
    skipped: list[Skipped] = []
    calls = list(read(path, report=skipped.append))
    # A line that lacks nothing but its end is whole.
    finished = sum(
        len(json.dumps(line)) <= len(part)
        for line, part in zip(lines, data.decode("utf-8", "ignore").split("\n"), strict=False)
    )
    assert len(calls) == (finished + 1) // 2
    assert sum(call.record is not None for call in calls) == finished // 2
    assert len(skipped) <= 1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"hello\n", r"expected a line of a replay log \(a JSON object\), found 'hello'"),
        (b"[1]\n", r"found '\[1\]'"),
        (b"\n", "found ''"),
        (b"\xff\xfe\n", "expected a line of a replay log"),
        (b'{"event":"request"}\n', 'with its version "v", found the keys event'),
        (b'{"v":"1"}\n', 'with its version "v", found the keys v'),
        (
            b'{"v":3,"event":"request"}\n',
            "version 3 of the format, and this .* reads up to 2: upgrade",
        ),
        (
            b'{"v":1,"event":"request","id":"9"}\n' + json.dumps(end("9")).encode() + b"\n",
            r"expected the end line|expected the request line",
        ),
    ],
)
def test_what_is_no_log_is_an_error_with_file_and_line(
    tmp_path: Path, line: bytes, complaint: str
) -> None:
    path = write(tmp_path / "a.jsonl", [request("1"), end("1"), line, request("2"), end("2")])
    calls = read(path)
    assert next(calls).id == "1"
    with pytest.raises(ReplayLogError, match=complaint) as error:
        list(calls)
    assert "a.jsonl:" in str(error.value)


def test_a_gzip_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.20260101T000000000000Z-7.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(ReplayLogError, match=r"\.gz:1: cannot be read"):
        list(read(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("name", ["none.jsonl", "", "sub/none.jsonl"])
def test_where_there_is_no_log_that_is_said_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReplayLogError, match="found none: configure"):
        read(tmp_path / name)


def test_unknown_keys_and_events_are_passed_over(tmp_path: Path) -> None:
    later = {"v": 1, "event": "later", "at": at(1), "what": [1]}
    path = write(
        tmp_path / "a.jsonl",
        [
            later,
            request("1", news=1, request={"model": "m", "news": 2}),
            end("1", news={}, response={"input_tokens": 3, "news": 4}),
        ],
    )
    [call] = read(path)
    assert call.start.request.model == "m"
    assert call.record is not None and call.record.response.input_tokens == 3


def test_a_route_that_is_not_known_here_is_read_too(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", [request("1", path="/api/later", operation="later"), end("1")]
    )
    [call] = read(path)
    assert (call.start.endpoint.name, call.path) == ("later", "/api/later")


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
WHOLE_REQUEST = request(
    "1",
    server="h",
    port=1,
    trace_id="a",
    span_id="b",
    sampled=True,
    conversation_id="c",
    user_id="u",
    tags={"t": "1"},
    body={"model": "m"},
    changes=["redacted"],
    request={"model": "m", "stream": True, "options": {}, "tools": ["t"], "think": True},
)
WHOLE_END = end(
    "1",
    status=200,
    size=2,
    chunk_count=1,
    time_to_first_chunk=0.5,
    response={"input_tokens": 3, "eval_duration": 0.5, "tool_calls": ["t"]},
    progress={"first": {}, "completed": {}, "total": {}, "started_at": 0.1},
    content_type="application/x-ndjson",
    chunks=[[0.5, "{}\n"]],
    changes=["vectors"],
)


@pytest.mark.slow
@settings(max_examples=examples(400))
@given(data=st.data(), value=anything)
def test_a_line_that_somebody_edited_gives_a_call_or_says_where_it_is_wrong(
    data: st.DataObject, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = json.loads(json.dumps([WHOLE_REQUEST, WHOLE_END]))
    line = data.draw(st.sampled_from(lines))
    key = data.draw(st.sampled_from(sorted(line)))
    inner = line[key]
    if isinstance(inner, dict) and inner and data.draw(st.booleans()):
        inner[data.draw(st.sampled_from(sorted(inner)))] = value
    elif key == "chunks" and data.draw(st.booleans()):
        inner[0][data.draw(st.integers(0, 1))] = value
    else:
        line[key] = value
    path = write(tmp_path_factory.mktemp("log") / "a.jsonl", lines)
    try:
        calls = list(read(path, report=lambda skipped: None))
    except ReplayLogError as error:
        assert "a.jsonl:" in str(error)
        return
    for call in calls:
        call.answer()
        assert call.record is None or call.record.phases is not None


def test_half_a_surrogate_pair_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [request("1", body={"prompt": "\ud83d"}), end("1")])
    [call] = read(path)
    assert call.request_body == {"prompt": "\ud83d"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    order = random.Random(1)
    with path.open("w") as file:
        for number in range(20_000):
            file.write(json.dumps(request(str(number))) + "\n")
            if number >= 50:
                file.write(json.dumps(end(str(number - 50), order.random())) + "\n")
    calls = read(path)
    for _ in range(1000):
        next(calls)
    tracemalloc.start()
    try:
        for _ in range(15_000):
            next(calls)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000


def test_a_log_is_read_while_it_grows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [request("1"), end("1"), request("2")])
    assert ids(path) == ["1", "2"]
    with path.open("a") as file:
        file.write(json.dumps(end("2")) + "\n")
    assert [call.record is not None for call in read(path)] == [True, True]


# --- bounds -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_requests_that_never_end_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel._log.reader._MOST_WAITING", 500)
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for number in range(10_000):
            file.write(json.dumps(request(str(number))) + "\n")
            if number % 2:
                file.write(json.dumps(end(str(number))) + "\n")
    calls = read(path)
    for _ in range(4_000):
        next(calls)
    tracemalloc.start()
    try:
        rest = sum(1 for _ in calls)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # All of them are read, once.
    assert rest == 6_000
    # As many wait as did before; all of them would be ten times as much.
    assert peak < 1_500_000


def test_of_too_many_open_calls_the_oldest_come_without_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel._log.reader._MOST_WAITING", 3)
    names = ["1", "2", "3", "4", "5"]
    lines = [*(request(name) for name in names), *(end(name) for name in ["5", "1", "3"])]
    skipped: list[Skipped] = []
    calls = list(read(write(tmp_path / "a.jsonl", lines), report=skipped.append))
    assert [(call.id, call.record is not None) for call in calls] == [
        ("1", False),
        ("2", False),
        ("5", True),
        ("3", True),
        ("4", False),
    ]
    [told] = skipped
    assert (told.line, told.reason) == (7, "an end line without its request line")


def test_large_requests_that_never_end_are_bounded_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel._log.reader._LARGEST_WAITING", 10_000)
    lines = [request(name, body={"prompt": "x" * 4_000}) for name in ("1", "2", "3")]
    path = write(tmp_path / "a.jsonl", [*lines, end("2"), end("3")])
    assert ids(path) == ["1", "2", "3"]
    # One that is larger than all may be comes at once.
    path = write(tmp_path / "b.jsonl", [request("1"), request("2", body="x" * 20_000), end("1")])
    skipped: list[Skipped] = []
    calls = list(read(path, report=skipped.append))
    assert [(call.id, call.record) for call in calls] == [("1", None), ("2", None)]
    assert [told.line for told in skipped] == [3]


def test_early_ends_without_a_begin_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_otel._log.reader._MOST_WAITING", 2)
    lines = [*(end(name, 1.0) for name in "1234"), end("4", 1.0), request("4"), request("1")]
    skipped: list[Skipped] = []
    calls = list(read(write(tmp_path / "a.jsonl", lines), report=skipped.append))
    assert [(call.id, call.record is not None) for call in calls] == [("4", True), ("1", False)]
    assert [(told.line, told.count) for told in skipped] == [(1, 4)]


def test_an_id_that_two_requests_have_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [request("1"), request("1"), end("1"), request("2")])
    skipped: list[Skipped] = []
    calls = list(read(path, report=skipped.append))
    assert [(call.id, call.line) for call in calls] == [("1", 2), ("2", 4)]
    assert [str(told).partition(": ")[2] for told in skipped] == [
        "a request line with the id of a later one"
    ]


@pytest.mark.slow
def test_a_line_of_very_many_values_is_an_error(tmp_path: Path) -> None:
    bomb = b'{"v":2,"event":"request","body":[' + b"[]," * 5_100_000 + b"1]}\n"
    path = write(tmp_path / "a.jsonl.gz", [request("1"), end("1"), bomb])
    calls = read(path)
    assert next(calls).id == "1"
    tracemalloc.start()
    try:
        with pytest.raises(ReplayLogError, match=r"a\.jsonl\.gz:3: .* 10,000,000 values"):
            next(calls)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(bomb)
    finally:
        tracemalloc.stop()


# --- values that no log of ours has -------------------------------------------------------------

ODD = [
    *("NaN", "-Infinity", "1e999", "1" + "0" * 10_000, "-" + "9" * 4_000, "18446744073709551616"),
    *(r'"\u0000"', r'"\ud800"', r'"\udfff\ud800"', '"' + "x" * 100_000 + '"', r'{"\ud800":[]}'),
    *(
        '"9999999-01-01T00:00:00Z"',
        '"9998-12-31T23:59:59.999999-14:00"',
        '"1970-01-01T00:00:00+14:00"',
    ),
    *(
        "[" * 150 + "]" * 150,
        "[" * 5_000 + "]" * 5_000,
        '{"a":' * 300 + "1" + "}" * 300,
        '{"a":1,"a":2}',
    ),
    *(
        '[[NaN,"x"]]',
        '[[1e9,"x"],[1e9,"y"]]',
        r'[[0,{"base64":"\ud800"}]]',
        "[[0,{}]]",
        '[["0","x"]]',
    ),
    *("null", "true", "-0.0", '""', "[]", "{}"),
]


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_whatever_stands_for_a_value_it_is_read_or_told_in_a_short_sentence(
    tmp_path: Path, odd: str
) -> None:
    log = [
        request("1", tags={"a": "b"}, trace_id="ab" * 16, span_id="cd" * 8, body={"model": "m"}),
        end("1", chunks=[[0.5, "{}"]], status=200, response={"done": True}, size=2),
    ]
    for number, changed in enumerate(log):
        for key in [*changed, *(f"request.{key}" for key in ("model", "options", "size", "tools"))]:
            section, _, name = key.rpartition(".")
            holder = {**changed.get(section, {}), name: "@"} if section else "@"
            lines = [*log[:number], {**changed, section or key: holder}, *log[number + 1 :]]
            text = "\n".join(json.dumps(line).replace('"@"', odd, 1) for line in lines)
            path = tmp_path / "a.jsonl"
            path.write_text(text + "\n")
            try:
                for call in read(path, report=lambda skipped: None):
                    call.answer()
            except ReplayLogError as error:
                assert len(str(error)) < 1_000 + len(str(path))
