"""Everything is in the one file, whatever its size, and what is lost is an error."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from ollama_otel.errors import ReplayLogError
from ollama_otel.replay._one_file_log import one_file_log
from ollama_otel.replay._tested import recording
from ollama_otel.testing import FakeOllama

from .call_lines import call

GIBIBYTE = 1024**3


def test_a_large_file_is_not_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with path.open("wb") as file:
        file.write(b'{"v":2,"event":"opened"')
        file.truncate(GIBIBYTE)
    with one_file_log(path) as log:
        log.begin(call().start)
    assert [each.name for each in tmp_path.iterdir()] == ["calls.jsonl"]
    assert path.stat().st_size > GIBIBYTE


def test_a_line_that_is_lost_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ReplayLogError, match="cannot write every call to"),
        one_file_log(tmp_path / "calls.jsonl") as log,
    ):
        log.close()
        log.begin(call().start)


def record(cassette: Path, **options: int) -> None:
    with (
        FakeOllama().serve() as url,
        recording(cassette, redactors=(), is_wanted=lambda: True, **options),
    ):
        for _ in range(5):
            httpx.get(f"{url}/api/tags")


@pytest.mark.sockets
def test_a_recording_in_more_than_one_file_makes_no_cassette(tmp_path: Path) -> None:
    cassette = tmp_path / "cassette.json"
    with pytest.raises(ReplayLogError, match=r"in one file, found calls\..* too: call"):
        record(cassette, max_size=100)
    assert not cassette.exists()


@pytest.mark.sockets
def test_a_cassette_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    in_the_way = tmp_path / "cassettes"
    in_the_way.touch()
    with pytest.raises(ReplayLogError, match=r"expected to write the cassette .*, found: "):
        record(in_the_way / "it.json")
