"""`ollama-otel report`: it writes one page, loses no file, and says what needs attention."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ollama_otel._cli import main
from tests.analysis.report import story


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story.write(tmp_path_factory.mktemp("log") / "calls.jsonl", calls=3000)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_it_says_where_the_page_is_and_what_needs_attention(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(log), "--quick"]) == 0
    first, second, *findings = capsys.readouterr().out.splitlines()
    assert first == "3000 calls: report.html"
    assert second.endswith("findings, the first 3 are:")
    assert len(findings) == 3
    assert findings[0].startswith("  worse  Failed: ")
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_only_this_user_can_read_the_page(log: Path) -> None:
    assert main(["report", str(log), "--quick"]) == 0
    assert stat.S_IMODE(Path("report.html").stat().st_mode) == 0o600


@pytest.mark.slow
def test_an_earlier_report_is_replaced(log: Path) -> None:
    assert main(["report", str(log), "--quick", "--since", "2026-09-25"]) == 0
    earlier = Path("report.html").read_bytes()
    assert main(["report", str(log), "--quick"]) == 0
    assert Path("report.html").read_bytes() != earlier
    assert [path.name for path in Path().iterdir()] == ["report.html"]


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"<!doctype html><p>Mine</p>", b"\xff\x00", None])
def test_another_file_is_kept(
    log: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path("mine.html")
    if content is None:
        mine.mkdir()
    else:
        mine.write_bytes(content)
    assert main(["report", str(log), "-o", "mine.html"]) == 2
    assert "expected a new file or an earlier report" in capsys.readouterr().err
    if content is not None:
        assert mine.read_bytes() == content
        assert main(["report", str(log), "--quick", "-o", "mine.html", "--force"]) == 0
        assert b"ollama-otel report" in mine.read_bytes()


def test_a_log_that_cannot_be_read_leaves_no_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["report", "missing.jsonl"]) == 2
    assert "missing.jsonl" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.slow
def test_a_folder_that_is_not_there_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", str(log), "-o", "no/such/page.html"])
    assert ended.value.code == 2
    assert "no/such" in capsys.readouterr().err


@pytest.mark.slow
def test_json_is_the_values_and_writes_no_page(
    log: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        main(["report", str(log), "--quick", "--json", "--since", "2026-09-25T03:00:00+00:00"]) == 0
    )
    values = json.loads(capsys.readouterr().out)
    assert values["period"]["compares"] == "period_before"
    assert values["findings"][0]["measure"] == "failed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_narrowed_report_is_on_those_calls(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            ["report", str(log), "--quick", "--json", "--model", "qwen3:8b", "--tag", "team=search"]
        )
        == 0
    )
    values = json.loads(capsys.readouterr().out)
    assert 200 < values["calls"]["total"] < 400
    assert {row["values"]["model"] for row in values["calls"]["rows"]} == {"qwen3:8b"}


def test_costs_of_some_calls_only_are_refused(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["report", str(log), "--prices", "prices.toml", "--user", "user1"]
    assert main(arguments) == 2
    assert "expected all calls, found --user" in capsys.readouterr().err


@pytest.mark.slow
def test_a_quick_page_has_neither_capacity_nor_advice(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = []
    for options in ([], ["--quick"]):
        assert main(["report", str(log), "--json", *options]) == 0
        values = json.loads(capsys.readouterr().out)
        sections.append({section["name"] for section in values["sections"]})
    assert sections[0] - sections[1] == {"capacity", "advice"}
