"""The table of calls: what the reader reads, at the speed of DuckDB."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_otel._facts import FACTS
from ollama_otel._log.format import end_line, request_line
from ollama_otel.analysis import Calls, open_log
from ollama_otel.analysis._store import log_import
from ollama_otel.errors import AnalysisError, MissingExtraError, ReplayLogError
from ollama_otel.records import CallRecord
from ollama_otel.replay import read
from tests.examples import examples
from tests.log.any_call import records
from tests.log.event_lines import end, line

from . import workload

DATA = Path(__file__).parents[1] / "data"


def by_reader(path: Path) -> dict[str, dict[str, Any]]:
    """Every column of every call, as the reader and the table of facts give it."""
    return {call.id: FACTS.flat(call.start, call.record) for call in read(path)}


def comparable(values: dict[str, Any]) -> dict[str, Any]:
    """JSON columns as objects, `think` as text, and seconds to the microsecond."""
    plain = dict(values)
    for name in ("options", "tags", "phases"):
        if isinstance(plain[name], str):
            plain[name] = json.loads(plain[name])
        elif plain[name] is not None:
            plain[name] = json.loads(json.dumps(plain[name]))
    if isinstance(plain["think"], bool):
        plain["think"] = json.dumps(plain["think"])
    for name, value in plain.items():
        if isinstance(value, float):
            plain[name] = pytest.approx(value, abs=0.6e-6)
    return plain


def table(calls: Calls) -> dict[str, dict[str, Any]]:
    return {row["call_id"]: row for row in calls.rows("SELECT * FROM calls")}


def check_equal(path: Path, calls: Calls) -> None:
    found, expected = table(calls), by_reader(path)
    assert found.keys() == expected.keys()
    for call_id, values in expected.items():
        row = {name: found[call_id][name] for name in values}
        assert comparable(row) == comparable(values)


@pytest.fixture
def usual_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the reader is needed."""

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("DuckDB has not read this log itself")

    monkeypatch.setattr(log_import, "_read_calls", refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("usual_only")
@pytest.mark.parametrize("bodies", [False, True])
def test_a_log_as_we_write_it_is_read_by_duckdb(tmp_path: Path, bodies: bool) -> None:
    workload.run(tmp_path / "calls.jsonl", bodies=bodies)
    with open_log(tmp_path / "calls.jsonl") as calls:
        assert len(calls) > 20
        check_equal(tmp_path / "calls.jsonl", calls)


def write(path: Path, found: list[CallRecord], *, open_calls: int = 0) -> None:
    lines = []
    for number, record in enumerate(found):
        lines.append(request_line(f"run-{number}", record.start))
        if number >= open_calls:
            lines.append(end_line(f"run-{number}", record))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.slow
@pytest.mark.usefixtures("usual_only")
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(records, max_size=4), open_calls=st.integers(0, 2))
def test_any_record_is_read_as_the_reader_reads_it(
    found: list[CallRecord], open_calls: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        write(path, found, open_calls=open_calls)
        with open_log(path) as calls:
            check_equal(path, calls)


@pytest.mark.slow
@settings(max_examples=examples(30))
@given(found=st.lists(records, max_size=4), open_calls=st.integers(0, 2))
def test_any_record_is_stored_as_the_reader_reads_it(
    found: list[CallRecord], open_calls: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "calls.jsonl"
        write(path, found, open_calls=open_calls)
        patch.setattr(log_import, "_read_lines", lambda *_arguments: False)
        with open_log(path) as calls:
            check_equal(path, calls)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["replay-log-v1.jsonl", "replay-log-v2.jsonl"])
def test_logs_of_all_versions_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes((DATA / name).read_bytes())
    with open_log(path) as calls:
        check_equal(path, calls)


@pytest.mark.slow
def test_a_cassette_is_read(tmp_path: Path) -> None:
    (cassette,) = (Path(__file__).parents[2] / "examples" / "cassettes").rglob("*.json")
    with open_log(cassette, cache=tmp_path) as calls:
        check_equal(cassette, calls)


@pytest.mark.slow
def test_a_folder_of_cassettes_is_read(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "examples" / "cassettes"
    with open_log(folder, cache=tmp_path) as calls:
        check_equal(folder, calls)
        assert len(calls) == len(list(read(folder))) > 0


REQUEST = line(1, v=2, server="h", port=1)
END = end(1, v=2, ending="final_message", phases={"unaccounted": 1.2})


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines",
    {
        "other zone": [line(1, v=2, at="2026-01-02T03:04:05.500000+02:00"), END],
        "an id twice": [REQUEST, END, REQUEST, END],
        "an unfinished line": [REQUEST, END, b'{"v":2,"event":"requ'],
        "a lone end": [END],
        "a kind of line to come": [REQUEST, line(1, "chunk", v=2), END],
        "nothing": [],
        "a call of very long duration": [
            REQUEST,
            end(1, v=2, ending="cancelled", duration=1e200, phases={"unaccounted": 1e200}),
        ],
        "text with quotes": [line(1, v=2, tags={"a\"'b": "x'y"}, server="it's"), END],
    }.items(),
    ids=lambda pair: pair[0],
)
def test_unusual_logs_are_read_as_the_reader_reads_them(lines: Any, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(lines[1]))
    if not lines[1]:
        with open_log(path) as calls:
            assert len(calls) == 0
            assert calls.period() is None
        return
    with open_log(path) as calls:
        check_equal_with_copies(path, calls)


def check_equal_with_copies(path: Path, calls: Calls) -> None:
    """Of calls with the same id, each gets an id of its own."""
    found = [comparable(row) for row in calls.rows("SELECT * FROM calls ORDER BY call_id")]
    expected = [comparable(FACTS.flat(call.start, call.record)) for call in read(path)]
    assert [{name: row[name] for name in expected[0]} for row in found] == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b'{"v":9,"event":"request"}\n'], "upgrade it"),
        ([b'{"some":"json"}\n'], "expected a line of a replay log"),
        ([b"not JSON\n", REQUEST], "calls.jsonl:1"),
        ([line(1, v=2, port="no number"), END], "calls.jsonl:2: .*port"),
    ],
)
def test_what_is_no_log_is_refused_as_by_the_reader(
    lines: list[bytes], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(lines))
    with pytest.raises(ReplayLogError, match=expected):
        open_log(path)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.slow
def test_what_is_skipped_is_told_also_from_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END + b'{"v":2,"event":"requ')
    for _ in range(2):
        with open_log(path) as calls:
            (skipped,) = calls.skipped
            assert (skipped.file, skipped.line) == (path, 3)
            assert "unfinished" in skipped.reason


@pytest.mark.slow
def test_archived_and_other_files_of_a_log_are_read(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST)
    with gzip.open(tmp_path / "calls.20260101T000000000000Z-7.jsonl.gz", "wb") as file:
        file.write(line(2, v=2) + end(2, v=2, ending="final_message", phases={"unaccounted": 1.2}))
    (tmp_path / "calls.pid9.jsonl").write_bytes(END)
    for named in (path, tmp_path):
        with open_log(named) as calls:
            check_equal(path, calls)
            assert len(calls) == 2


# --- the cache ----------------------------------------------------------------------------


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The logs that were imported, not taken from a cache."""
    found: list[Path] = []
    original = log_import.import_log

    def counted(path: Path, folder: Path, **options: Any) -> Any:
        found.append(path)
        return original(path, folder, **options)

    monkeypatch.setattr("ollama_otel.analysis._store.calls.import_log", counted)
    yield found


@pytest.mark.slow
def test_a_log_is_imported_once_and_again_when_it_changes(
    tmp_path: Path, imports: list[Path]
) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    for _ in range(2):
        with open_log(path) as calls:
            assert calls.rows("SELECT model FROM calls") == [{"model": None}]
    assert len(imports) == 1
    with path.open("ab") as file:
        file.write(line(2, v=2))
    with open_log(path) as calls:
        assert len(calls) == 2
    assert len(imports) == 2
    kept = [folder for folder in tmp_path.rglob("*") if folder.is_dir() and list(folder.glob("p*"))]
    assert len(kept) == 1, "older content is deleted"


@pytest.mark.slow
def test_a_change_that_keeps_size_and_time_is_found(tmp_path: Path, imports: list[Path]) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(line(1, v=2, user_id="anna") + END)
    status = path.stat()
    open_log(path).close()
    path.write_bytes(path.read_bytes().replace(b"anna", b"otto"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with open_log(path) as calls:
        assert calls.rows("SELECT user_id FROM calls") == [{"user_id": "otto"}]
    assert len(imports) == 2


@pytest.mark.slow
def test_files_of_another_layout_or_damaged_ones_are_made_again(
    tmp_path: Path, imports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    open_log(path).close()
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_text("{")
    open_log(path).close()
    monkeypatch.setattr("ollama_otel.analysis._store.cache._LAYOUT", "older")
    open_log(path).close()
    assert len(imports) == 3


@pytest.mark.slow
def test_what_others_import_at_the_same_time_stays(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    with open_log(path) as first:
        (manifest,) = tmp_path.rglob("manifest.json")
        # As if the other process had not seen that the import was finished.
        manifest.unlink()
        with open_log(path) as second:
            assert len(first) == len(second) == 1


@pytest.mark.slow
def test_unfinished_imports_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    open_log(path).close()
    (manifest,) = tmp_path.rglob("manifest.json")
    old, new = (manifest.parent / f"unfinished-{name}" for name in ("old", "new"))
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))
    path.write_bytes(REQUEST)
    open_log(path).close()
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_only_this_user_can_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    open_log(path).close()
    (folder,) = (found for found in tmp_path.iterdir() if found.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_without_a_cache_nothing_is_left(tmp_path: Path, imports: list[Path]) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    for _ in range(2):
        with open_log(path, cache=False) as calls:
            assert len(calls) == 1
    assert len(imports) == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_chosen_folder_is_used_and_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    with open_log(path, cache=tmp_path / "mine") as calls:
        assert len(calls) == 1
    assert list((tmp_path / "mine").rglob("*.parquet"))
    with pytest.raises(AnalysisError, match="name another one"):
        open_log(path, cache=path / "below a file")


@pytest.mark.slow
def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    workload.run(path)
    shares: list[float] = []
    open_log(path, progress=shares.append).close()
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


# --- queries ------------------------------------------------------------------------------


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    path = tmp_path / "calls.jsonl"
    at = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
    # Three calls: two overlap for one of their two seconds; the third is alone; one is open.
    starts = [0.0, 1.0, 10.0, 60.0]
    for number, offset in enumerate(starts):
        time = (at + timedelta(seconds=offset)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        start = line(
            number, v=2, at=time, server="h", port=1, tags={"team": "a.b" if number else 'q"'}
        )
        with path.open("ab") as file:
            file.write(start)
            if offset < 60:
                file.write(end(number, v=2, at=time, duration=2.0, ending="final_message"))
    with open_log(path) as opened:
        yield opened


@pytest.mark.slow
def test_concurrency_is_the_mean_number_of_calls(calls: Calls) -> None:
    rows = calls.rows("SELECT concurrency, ended_at FROM calls ORDER BY started_at")
    assert [row["concurrency"] for row in rows] == [pytest.approx(1.5)] * 2 + [1.0, None]
    assert rows[3]["ended_at"] is None


@pytest.mark.slow
def test_our_functions(calls: Calls) -> None:
    row = calls.rows(
        """
        SELECT exact_quantile(duration, 0.5) AS median, count_if(tag(tags, 'team') = 'a.b') AS teams,
            seconds_between(min(started_at), max(started_at)) AS seconds,
            count(DISTINCT time_bucket_of(started_at, 30)) AS buckets,
            max(option_number(options, 'num_ctx')) AS num_ctx, sum(1) AS total
        FROM calls WHERE started_at >= $since
        """,
        since=datetime(2026, 1, 2, 3, 0),  # noqa: DTZ001 - as stored
    )[0]
    assert row == {
        "median": 2.0, "teams": 3, "seconds": 60.0, "buckets": 2, "num_ctx": None, "total": 4,
    }  # fmt: skip
    assert calls.rows("""SELECT count_if(tag(tags, 'team') = 'q"') AS n FROM calls""") == [{"n": 1}]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a", "", 'q"', "b\\s", "a/b", "~1", "a.b", "$x", "*", "0", "é"])
def test_any_name_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    request = {"options": {name: 4, "other": 5}}
    path.write_bytes(line(1, v=2, tags={name: "text", "other": "x"}, request=request) + END)
    with open_log(path) as calls:
        sql = "SELECT tag(tags, $name) AS tag, option_number(options, $name) AS option FROM calls"
        assert calls.rows(sql, name=name) == [{"tag": "text", "option": 4.0}]
        assert calls.rows(sql, name="none") == [{"tag": None, "option": None}]


@pytest.mark.slow
def test_decimals_become_floats_and_whole_numbers_integers(calls: Calls) -> None:
    assert calls.rows("SELECT 1.5 AS part, sum(1) AS whole FROM calls") == [
        {"part": 1.5, "whole": 4}
    ]


def test_nothing_is_made_where_there_is_no_log(tmp_path: Path) -> None:
    for missing in (tmp_path / "calls.jsonl", tmp_path):
        with pytest.raises(ReplayLogError, match="found none"):
            open_log(missing)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_log_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"not JSON\n" + REQUEST)
    with pytest.raises(ReplayLogError):
        open_log(path, cache=False)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_calls_are_narrowed_step_by_step(calls: Calls) -> None:
    first = datetime(2026, 1, 2, 3, 0, 1, tzinfo=UTC)
    later = calls.between(first)
    assert [len(later), len(later.where("duration = 2")), len(calls.between(until=first))] == [
        3,
        2,
        1,
    ]
    assert len(calls) == 4
    east = first.astimezone(datetime.strptime("+0200", "%z").tzinfo)
    assert len(calls.between(east)) == 3
    assert calls.period() == (first - timedelta(seconds=1), first + timedelta(seconds=59))


@pytest.mark.slow
def test_sql_that_fails_says_why(calls: Calls) -> None:
    with pytest.raises(AnalysisError, match="nothing"):
        calls.rows("SELECT nothing FROM calls")
    with pytest.raises(AnalysisError, match="syntax"):
        calls.rows("SELEC 1")


def test_without_the_packages_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(REQUEST + END)
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"ollama_otel\[analysis\]"):
        open_log(path)
